"""Huffman codes (Huffman, 1952): the second step of the compression protocol, Definition 3.7.

Two queues, the letters by weight and the merged nodes by age, both of which stay sorted (van
Leeuwen, 1976), so that a million letters take seconds. Integer weights are added as integers:
their expected length is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .responses import as_probabilities


@dataclass(frozen=True, eq=False)
class HuffmanCode:
    """`lengths` [n]: bits of each letter's code word, 0 for a letter of weight 0.

    `expected_length` is in bits per letter: the sum of all merged weights over the total. It is 0
    for a single letter, which needs no code word.
    """

    lengths: NDArray[np.int64]
    expected_length: float


def huffman_code(weights: ArrayLike) -> HuffmanCode:
    """An optimal prefix code for letters of these weights [n] (counts or probabilities).

    Ties are broken in favour of letters over merged nodes, which among the optimal codes gives
    the one of least longest word. Raises `ResponseError` on weights that are no weights.
    """
    values = np.asarray(weights)
    as_probabilities(values)  # checks them
    used = np.flatnonzero(values)
    order = used[np.argsort(values[used], kind="stable")]
    letters = values[order].tolist()
    lengths = np.zeros(values.size, np.int64)
    if len(letters) == 1:
        return HuffmanCode(lengths, 0.0)
    parents, merged = _merge(letters)
    lengths[order] = _depths(parents, len(letters))
    return HuffmanCode(lengths, sum(merged) / sum(letters))


def _merge(letters: list[float]) -> tuple[list[int], list[float]]:
    """Parents of all nodes (letters first, then merged ones; the root has none), merged weights."""
    n = len(letters)
    parents = [0] * (2 * n - 2)
    merged: list[float] = []
    leaf = node = 0
    for parent in range(n, 2 * n - 1):
        weight: float = 0
        for _ in range(2):
            if leaf < n and (node >= len(merged) or letters[leaf] <= merged[node]):
                weight += letters[leaf]
                parents[leaf] = parent
                leaf += 1
            else:
                weight += merged[node]
                parents[n + node] = parent
                node += 1
        merged.append(weight)
    return parents, merged


def _depths(parents: list[int], letters: int) -> NDArray[np.int64]:
    depths = [0] * (len(parents) + 1)
    for node in range(len(parents) - 1, -1, -1):
        depths[node] = depths[parents[node]] + 1
    return np.array(depths[:letters], np.int64)
