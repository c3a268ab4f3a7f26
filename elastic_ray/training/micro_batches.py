"""Divides a global batch into micro batches, so that little padding is computed.

The workers train side by side: each takes one micro batch of every *wave*, and a wave takes as long
as its largest micro batch. Examples are sorted by length and cut into waves, and each wave into a
micro batch for each worker, such that the sum over waves of the largest micro batch's padded tokens
plus `MICRO_BATCH_COST` is smallest. A micro batch has at most `micro_batch` rows, so it never holds
more than `micro_batch` times the longest example's tokens.

The division depends on the lengths, the number of workers and `micro_batch` only. It changes the
order of sums, so the weights agree to float tolerance between divisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from .batches import IGNORED, TokenizedExample

MICRO_BATCH_COST = 192
"""What a micro batch costs beside its tokens (kernel launches, gathering of partitioned weights),
in tokens. A larger value gives fewer micro batches and more padding. An estimate for models of
about 1B parameters on a GPU, not a measurement."""
MOST_CUTS = 64
"""Places where a global batch may be cut, about: the division takes time with their cube."""

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Division = list[list[list[int]]]
"""Indices of the examples by wave, worker and row. A worker may have no row in a wave."""


@dataclass(frozen=True)
class MicroBatch:
    """Arrays of shape (rows, longest row), padded on the right: token ids, and targets.

    The attention needs no mask: causal attention never looks to the right, where the padding is.
    """

    ids: IntArray
    targets: IntArray


def shard(
    batch: Sequence[TokenizedExample], rank: int, workers: int, micro_batch: int, pad: int
) -> list[MicroBatch]:
    """Return the micro batches of a global batch that `rank` trains on, padded with id `pad`.

    Every rank gets the same number of them, as the collective operations need.
    """
    waves = divide([len(one.ids) for one in batch], workers, micro_batch)
    # A rank without examples still takes part in the collective steps: one row, no targets.
    first = batch[0].ids[:2]
    filler = [TokenizedExample(first, [IGNORED] * len(first))]
    return [_pad([batch[i] for i in wave[rank]] or filler, pad) for wave in waves]


def divide(lengths: Sequence[int], workers: int, micro_batch: int) -> Division:
    """Divide examples of these lengths (in tokens) among workers and micro batches."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    sizes = np.array([max(1, lengths[i]) for i in order], dtype=np.int64)
    step = min(micro_batch, ceil(len(order) / MOST_CUTS))
    cuts = np.array([*range(0, len(order), step), len(order)])
    rows = cuts[None, :] - cuts[:, None]
    single = rows * np.append(sizes, 0)[cuts][:, None].astype(np.float64)
    single[(rows < 0) | (rows > micro_batch)] = np.inf
    largest = _largest_of(single, workers)
    waves: Division = []
    trained = [0] * workers
    for start, stop in _waves(largest):
        limit = largest[start, stop]
        parts = _parts(sizes[: cuts[stop]], int(cuts[start]), int(limit), micro_batch)
        padded = [int(sizes[part.start]) * len(part) for part in parts]
        wave: list[list[int]] = [[] for _ in range(workers)]
        # The largest part goes to the rank with the fewest tokens so far.
        ranks = sorted(range(workers), key=lambda rank: (trained[rank], rank))
        by_size = sorted(range(len(parts)), key=lambda k: (-padded[k], k))
        for rank, k in zip(ranks, by_size, strict=False):
            wave[rank] = [order[i] for i in parts[k]]
            trained[rank] += padded[k]
        waves.append(wave)
    return waves


def _largest_of(single: FloatArray, parts: int) -> FloatArray:
    """Return the tokens of the largest part, for each range of cuts divided into `parts` at best.

    `single` has shape (cuts, cuts): the padded tokens of a range as one part; inf where it has too
    many rows. Parts may be empty. Powers of the matrix under (min, max) give the answer.
    """
    result, power = None, single
    while True:
        if parts & 1:
            result = power if result is None else _min_max(result, power)
        parts >>= 1
        if not parts:
            assert result is not None
            return result
        power = _min_max(power, power)


def _min_max(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return the product of two matrices with minimum for sum and maximum for product."""
    product = np.full_like(left, np.inf)
    for i, row in enumerate(left):
        reach = np.flatnonzero(np.isfinite(row))  # without the others: a few per cent of a row
        product[i] = np.maximum(row[reach, None], right[reach]).min(axis=0)
    return product


def _waves(largest: FloatArray) -> list[tuple[int, int]]:
    """Return the ranges of cuts that are waves, at the smallest total cost."""
    last = len(largest) - 1
    cost = np.full(last + 1, np.inf)
    cost[0] = 0
    begin = np.zeros(last + 1, dtype=np.int64)
    for stop in range(1, last + 1):
        totals = cost[:stop] + largest[:stop, stop] + MICRO_BATCH_COST
        begin[stop] = totals.argmin()
        cost[stop] = totals[begin[stop]]
    found = []
    while last:
        found.append((int(begin[last]), last))
        last = int(begin[last])
    return found[::-1]


def _parts(sizes: IntArray, start: int, limit: int, micro_batch: int) -> list[range]:
    """Cut the rows from `start` into parts of at most `limit` padded tokens, longest rows first."""
    parts = []
    while start < len(sizes):
        rows = min(limit // int(sizes[start]), micro_batch, len(sizes) - start)
        parts.append(range(start, start + rows))
        start += rows
    return parts


def _pad(rows: Sequence[TokenizedExample], pad: int) -> MicroBatch:
    longest = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    targets = np.full((len(rows), longest), IGNORED, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        targets[i, : len(row.ids)] = row.targets
    return MicroBatch(ids, targets)
