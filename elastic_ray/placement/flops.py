"""What a sweep costs: parameters, checkpoint bytes, and a rough estimate of time.

Sizes are exact for models trained from scratch and told by their names for the hub's. Times are
estimates to plan by, from arithmetic (6 x parameters x tokens to train, 2 x to generate; Kaplan et
al. 2020, section 2.1) and two rates; the recorded `seconds` of the states are the truth. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..plan import UNKNOWN_PARAMETERS
from ..spec import Recipe
from .hardware import GPUS

CPU_FLOPS = 2.5e10
"""Training arithmetic per second of one CPU core on small models."""
DEVICES = {name: GPUS[name].flops for name in ("A800", "H100")}
"""The same of the GPUs that GPU-hours are told for. (An A800 is an A100 with slower links.)"""
STEP_SECONDS = 0.008
"""One optimiser step beside its arithmetic."""
LADDER_SECONDS = 1.5
"""Loading the parent and making the optimiser."""
SNAPSHOT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Rate:
    """What one trainer computes: FLOP per second."""

    flops: float


def rate(workers: int, cpus: float, gpus: float, device: str = "A800") -> Rate:
    """The rate of a trainer of `workers`, each with that many CPUs and GPUs of that kind."""
    return Rate(workers * (gpus * GPUS[device].flops if gpus else cpus * CPU_FLOPS))


def training_seconds(
    size: int | None, examples: int, tokens: float, recipe: Recipe, rungs: int, at: Rate
) -> float:
    """Seconds of one ladder of `examples`, `tokens` per example, and `rungs` snapshots."""
    seen = examples * recipe.epochs
    arithmetic = 6 * (size or UNKNOWN_PARAMETERS) * seen * tokens / at.flops
    overhead = seen / recipe.global_batch * STEP_SECONDS + rungs * SNAPSHOT_SECONDS
    return arithmetic + overhead + LADDER_SECONDS


def generation_seconds(size: int | None, answers: int, tokens: int, at: Rate) -> float:
    """Seconds of generating `answers` of at most `tokens` each; memory-bound, so 5x arithmetic."""
    return 5 * 2 * (size or UNKNOWN_PARAMETERS) * answers * tokens / at.flops


def reading_seconds(size: int | None, texts: int, tokens: float, at: Rate) -> float:
    """Seconds of a model of that size reading texts of that many tokens, once each."""
    return 2 * (size or UNKNOWN_PARAMETERS) * texts * tokens / at.flops
