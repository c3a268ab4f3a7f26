"""GPU memory of engines and training workers in GiB, and the size of checkpoints. Pure."""

from __future__ import annotations

from ..plan import UNKNOWN_PARAMETERS
from ..spec import Recipe

CACHED_REQUESTS = 32
"""Full-length requests that an engine's key-value cache should hold, for efficient batches."""
CACHE_VALUES = 262_144
"""Values that one token occupies in the key-value cache of a 7B model (32 layers x 4096 x keys and
values). Other models scale with the square of their width, so with size to the power 2/3. Models
with grouped heads take less."""
REDUCE_BUCKET = 50_000_000
"""Gradients that DeepSpeed reduces at a time."""
ENGINE_GIB = 2.0
"""GPU memory of an engine in addition to weights and cache: CUDA context, graphs, activations."""


def checkpoint_bytes(size: int | None, recipe: Recipe) -> int:
    """Return the bytes of one checkpoint in the recipe's precision; LoRA adapters take about 1%."""
    width = 4 if recipe.precision == "fp32" else 2
    whole = (size or UNKNOWN_PARAMETERS) * width
    return whole // 100 if recipe.lora else whole


def engine_gib(size: int, width: int, context: int) -> tuple[float, float]:
    """Return an engine's GPU memory in GiB: with its weights alone, and with its cache too.

    `size` counts parameters of `width` bytes; the cache holds `CACHED_REQUESTS` of `context`
    tokens.
    """
    weights = size * width
    cache = CACHED_REQUESTS * context * CACHE_VALUES * (size / 7e9) ** (2 / 3) * width
    return weights / 2**30 + ENGINE_GIB, (weights + cache) / 2**30 + ENGINE_GIB


def worker_gib(size: int, recipe: Recipe, zero_stage: int, workers: int) -> float:
    """Return the GPU memory in GiB of each of `workers` that train a model with AdamW.

    Counts weights, gradients and optimiser state (in bf16 with its fp32 copy of the weights). Each
    is divided among the workers from its ZeRO stage on. A fifth is added for activations.
    """
    width, state = (4, 8) if recipe.precision == "fp32" else (2, 12)
    trained = 0.01 if recipe.lora else 1.0
    parts = [(3, width), (2, trained * width), (1, trained * state)]
    each = sum(bytes / (workers if zero_stage >= stage else 1) for stage, bytes in parts)
    return 1.2 * size * each / 2**30 + ENGINE_GIB
