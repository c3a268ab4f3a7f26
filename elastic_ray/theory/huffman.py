"""Builds Huffman codes (Huffman, 1952), the second step of the compression protocol (Def. 3.7).

The algorithm uses two queues that stay sorted: letters by weight, and merged nodes by age (van
Leeuwen, 1976). A million letters take seconds. Integer weights are added as integers, so their
expected length is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .responses import as_probabilities


@dataclass(frozen=True, eq=False)
class HuffmanCode:
    """Code word lengths of an optimal prefix code.

    `lengths` [n] are the bits of each letter's code word, 0 for a letter of weight 0.
    `expected_length` is in bits per letter: the sum of all merged weights divided by the total. It
    is 0 for a single letter, which needs no code word.
    """

    lengths: NDArray[np.int64]
    expected_length: float


def huffman_code(weights: ArrayLike) -> HuffmanCode:
    """Return an optimal prefix code for letters of these weights [n] (counts or probabilities).

    A tie prefers a letter to a merged node: among the optimal codes this gives the one whose
    longest word is shortest. Raises `ResponseError` unless the weights are finite, not negative
    and not all zero.
    """
    values = np.asarray(weights)
    as_probabilities(values)  # raises on invalid weights
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
    """Return the parent of each node except the root, and the weights of the merged nodes.

    Letters come first, then merged nodes in the order in which they were merged.
    """
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
