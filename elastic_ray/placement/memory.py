"""GPU memory of engines in GiB, and the size of checkpoints; for training see `training_memory`."""

from __future__ import annotations

from ..plan import UNKNOWN_PARAMETERS
from ..spec import Recipe

CACHED_REQUESTS = 32
"""Full-length requests that an engine's key-value cache should hold, for efficient batches."""
CACHE_VALUES = 262_144
"""Values that one token occupies in the key-value cache of a 7B model (32 layers x 4096 x keys and
values). Other models scale with the square of their width, so with size to the power 2/3. Models
with grouped heads take less."""
ENGINE_GIB = 2.0
"""GPU memory of an engine in addition to weights and cache: CUDA context, graphs, activations."""


def checkpoint_bytes(size: int | None, recipe: Recipe) -> int:
    """Return the bytes of one checkpoint in the recipe's precision; LoRA adapters take about 1%."""
    width = 4 if recipe.precision == "fp32" else 2
    whole = (size or UNKNOWN_PARAMETERS) * width
    return whole // 100 if recipe.lora else whole


def point_bytes(size: int | None, recipe: Recipe) -> int:
    """Return the bytes of one resume point, over all workers.

    A point holds AdamW's two moments and its float32 weights, and in bf16 the model's weights; of
    LoRA's adapters, about 1%.
    """
    width = 12 if recipe.precision == "fp32" else 14
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
