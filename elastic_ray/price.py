"""What a sweep costs: parameters, checkpoint bytes, and a rough estimate of time.

Sizes are exact for models trained from scratch and told by their names for the hub's. Times are
estimates to plan by, from arithmetic (6 x parameters x tokens to train, 2 x to generate; Kaplan et
al. 2020, section 2.1) and two rates; the recorded `seconds` of the states are the truth. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from .nodes import GPUS
from .plan.model_size import UNKNOWN_PARAMETERS
from .spec import Recipe

CPU_FLOPS = 2.5e10
"""Training arithmetic per second of one CPU core on small models."""
DEVICES = {name: GPUS[name].flops for name in ("A800", "H100")}
"""The same of the GPUs that GPU-hours are told for. (An A800 is an A100 with slower links.)"""
STEP_SECONDS = 0.008
"""One optimiser step beside its arithmetic."""
LADDER_SECONDS = 1.5
"""Loading the parent and making the optimiser."""
SNAPSHOT_SECONDS = 0.2
CACHED_REQUESTS = 32
"""Requests of full length that an engine's key-value cache should hold, to answer in batches."""
CACHE_VALUES = 262_144
"""Values that one token takes in the cache of a model of 7B parameters (32 layers of 4096, keys
and values); of others in proportion to the square of their width, so as the power 2/3 of their
size. Grouped heads take less."""
ENGINE_GIB = 2.0
"""GPU memory of an engine beside weights and cache: CUDA, graphs, activations."""


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


def checkpoint_bytes(size: int | None, recipe: Recipe) -> int:
    """Bytes of one snapshot: the weights in the recipe's precision (adapters: about 1%)."""
    width = 4 if recipe.precision == "fp32" else 2
    whole = (size or UNKNOWN_PARAMETERS) * width
    return whole // 100 if recipe.lora else whole


def engine_gib(size: int, width: int, context: int) -> tuple[float, float]:
    """GiB of GPU memory that an engine's weights take, of `width` bytes each, and that it wants
    with its cache for `CACHED_REQUESTS` of `context` tokens."""
    weights = size * width
    cache = CACHED_REQUESTS * context * CACHE_VALUES * (size / 7e9) ** (2 / 3) * width
    return weights / 2**30 + ENGINE_GIB, (weights + cache) / 2**30 + ENGINE_GIB


def worker_gib(size: int, recipe: Recipe, zero_stage: int, workers: int) -> float:
    """GiB of GPU memory of each of so many workers that train a model with AdamW: weights,
    gradients, and the optimiser's state (in bf16 with its own copy of the weights), each divided
    among them from its ZeRO stage on, and a fifth more for activations."""
    width, state = (4, 8) if recipe.precision == "fp32" else (2, 12)
    trained = 0.01 if recipe.lora else 1.0
    parts = [(3, width), (2, trained * width), (1, trained * state)]
    each = sum(bytes / (workers if zero_stage >= stage else 1) for stage, bytes in parts)
    return 1.2 * size * each / 2**30 + ENGINE_GIB
