"""Reproducible seeded choices, from keyed hashes instead of a library's random numbers."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=64)
def _permutation(size: int, key: str) -> NDArray[np.int64]:
    """Return range(size) sorted by a keyed BLAKE2b hash of each index (ties by index)."""
    secret = hashlib.blake2b(key.encode(), digest_size=32).digest()
    hashes = bytearray()
    keyed = hashlib.blake2b(digest_size=8, key=secret)
    for index in range(size):
        one = keyed.copy()
        one.update(index.to_bytes(8, "little"))
        hashes += one.digest()
    order = np.argsort(np.frombuffer(bytes(hashes), dtype="<u8"), kind="stable").astype(np.int64)
    order.setflags(write=False)
    return order


def selection(size: int, count: int, seed: int, epoch: int = 0) -> NDArray[np.int64]:
    """Return the first `count` indices of one seeded permutation of range(`size`).

    A smaller `count` gives a prefix of a larger one. A later `epoch` has the same indices in
    another order. The array has shape (count,) and is read-only. Raises `ValueError` if `count`
    exceeds `size`.
    """
    if not 0 <= count <= size:
        raise ValueError(f"cannot select {count} of {size}")
    chosen = _permutation(size, f"selection {seed}")[:count]
    if epoch:
        chosen = chosen[_permutation(count, f"order {seed} {epoch}")]
        chosen.setflags(write=False)
    return chosen


def hash_below(limit: int, *key: object) -> int:
    """Return a whole number from 0 to `limit` - 1, determined by the key; uniform to 2^-64."""
    text = "\0".join(str(part) for part in key)
    drawn = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return drawn * limit >> 64
