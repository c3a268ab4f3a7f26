"""Prepares the next global batch in a thread while the present one trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield `make(item)` of each item, in order; the next is made while the caller has the last.

    An exception of `make` is raised where its value would have been yielded.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        pending: Future[Made] | None = None
        for item in items:
            following = thread.submit(make, item)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
