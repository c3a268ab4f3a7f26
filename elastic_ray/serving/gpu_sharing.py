"""Engines and scorers that share a GPU: how much of its memory each takes, and when they start.

vLLM measures what it uses while it starts, and charges what others take meanwhile to itself (vllm
issue 55827). So each engine with a part of a GPU is told its cache in bytes, and the engines of a
node start one after the other.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
from collections.abc import Iterator
from pathlib import Path

from ..results.storage.node_cache import cache_folder
from .errors import EngineError

OVERHEAD_BYTES = 2 * 2**30
"""Memory of an engine beside weights and cache: CUDA context, graphs, activations. As in
`placement.memory`."""
MIN_CACHE_BYTES = 2**28
"""A smaller cache than this cannot hold a few requests of a usual context."""


def cache_bytes(total: int, share: float, weights: int, name: str) -> int:
    """Return the bytes of key-value cache of an engine on a part of a GPU.

    `total` is the GPU's memory in bytes, `share` the part of it that the engine may use, and
    `weights` the bytes of its weights. Raises `EngineError` if too little is left.
    """
    left = math.floor(total * share) - weights - OVERHEAD_BYTES
    if left < MIN_CACHE_BYTES:
        gib = 2**30
        raise EngineError(
            f"{name}: its share of the GPU is {total * share / gib:.1f} of {total / gib:.1f} GiB; "
            f"weights take {weights / gib:.1f} GiB, and activations {OVERHEAD_BYTES / gib:.0f}; "
            "give it more (resources.engines.gpus, resources.scorers.gpus)"
        )
    return left


@contextlib.contextmanager
def starting_alone(gpus: float) -> Iterator[None]:
    """Hold this node's turn to start, for processes that have a part of a GPU."""
    if not 0 < gpus < 1:
        yield
        return
    descriptor = os.open(Path(cache_folder(), "engine-start"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # ends with the process
        yield
    finally:
        os.close(descriptor)
