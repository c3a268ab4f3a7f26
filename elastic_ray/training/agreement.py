"""Lets the ranks of a worker group agree on a value."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def first_of_ranks(value: T | None, workers: int) -> T | None:
    """Return the first value over all ranks that is not None, the same on every rank.

    A collective operation: each of the `workers` ranks must call it. The value must pickle.
    """
    if workers == 1:
        return value
    import torch.distributed as dist

    values: list[T | None] = [None] * workers
    dist.all_gather_object(values, value)
    return next((each for each in values if each is not None), None)
