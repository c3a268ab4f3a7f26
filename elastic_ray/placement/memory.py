"""GPU memory that engines and training workers need, in GiB, and the size of checkpoints."""

from __future__ import annotations

from ..plan import UNKNOWN_PARAMETERS
from ..spec import Recipe

CACHED_REQUESTS = 32
"""Requests of full length that an engine's key-value cache should hold, to answer in batches."""


CACHE_VALUES = 262_144
"""Values that one token takes in the cache of a model of 7B parameters (32 layers of 4096, keys
and values); of others in proportion to the square of their width, so as the power 2/3 of their
size. Grouped heads take less."""


ENGINE_GIB = 2.0
"""GPU memory of an engine beside weights and cache: CUDA, graphs, activations."""


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
