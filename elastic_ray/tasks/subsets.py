"""Seeded choices that never change: by keyed hashing, not by a library's random numbers."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=64)
def _permutation(size: int, key: str) -> NDArray[np.int64]:
    """A permutation of range(size), sorted by a keyed BLAKE2b of each index (ties by index)."""
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
    """The first `count` of one seeded permutation of range(`size`): nested in `count`.

    A later `epoch` visits the same `count` in another order. Shape (count,), read-only. Raises
    `ValueError` where `count` exceeds `size`.
    """
    if not 0 <= count <= size:
        raise ValueError(f"cannot select {count} of {size}")
    chosen = _permutation(size, f"selection {seed}")[:count]
    if epoch:
        chosen = chosen[_permutation(count, f"order {seed} {epoch}")]
        chosen.setflags(write=False)
    return chosen


def below(limit: int, *key: object) -> int:
    """A whole number from 0 to `limit` - 1, fixed by the key; uniform to 2^-64."""
    text = "\0".join(str(part) for part in key)
    drawn = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return drawn * limit >> 64
