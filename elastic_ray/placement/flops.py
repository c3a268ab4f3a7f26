"""Estimates seconds of training and inference from FLOP counts and hardware speed. Pure.

Training takes 6 x parameters x tokens FLOP, inference 2 x (Kaplan et al. 2020, section 2.1). These
are estimates for planning; the recorded `seconds` of states are measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..plan import UNKNOWN_PARAMETERS
from ..spec import Recipe
from .hardware import GPUS

CPU_FLOPS = 2.5e10
"""FLOP per second of one CPU core that trains a small model."""
DEVICES = {name: GPUS[name].flops for name in ("A800", "H100")}
"""FLOP per second of the reference GPU types that every price is given for.

An A800 is an A100 with slower links between GPUs; the paper used A800s."""
STEP_SECONDS = 0.008
"""Seconds per optimiser step in addition to its arithmetic."""
LADDER_SECONDS = 1.5
"""Seconds per ladder to load the parent's weights and create the optimiser."""
SNAPSHOT_SECONDS = 0.2
"""Seconds to write one checkpoint."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Sustained speed in FLOP per second."""

    flops: float


def rate(workers: int, cpus: float, gpus: float, device: str = "A800") -> Rate:
    """Return the speed of a group of workers that each have that many CPUs and GPUs of a type.

    CPUs count only for workers without a GPU.
    """
    return Rate(workers * (gpus * GPUS[device].flops if gpus else cpus * CPU_FLOPS))


def training_seconds(
    size: int | None, examples: int, tokens: float, recipe: Recipe, rungs: int, at: Rate
) -> float:
    """Return the seconds of one ladder of `examples`, with `tokens` per example.

    `size` is the number of parameters (None: unknown), `rungs` the number of checkpoints.
    """
    seen = examples * recipe.epochs
    arithmetic = 6 * (size or UNKNOWN_PARAMETERS) * seen * tokens / at.flops
    overhead = seen / recipe.global_batch * STEP_SECONDS + rungs * SNAPSHOT_SECONDS
    return arithmetic + overhead + LADDER_SECONDS


def generation_seconds(size: int | None, answers: int, tokens: int, at: Rate) -> float:
    """Return the seconds to generate `answers` of `tokens` each.

    Generation is limited by memory bandwidth: five times its arithmetic is assumed.
    """
    return 5 * 2 * (size or UNKNOWN_PARAMETERS) * answers * tokens / at.flops


def reading_seconds(size: int | None, texts: int, tokens: float, at: Rate) -> float:
    """Return the seconds of one forward pass over `texts` of `tokens` each."""
    return 2 * (size or UNKNOWN_PARAMETERS) * texts * tokens / at.flops
