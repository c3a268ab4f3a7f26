"""Work that takes much longer than its like: told once, to people, who may look at the node (pure).

Nothing is ended for being slow: what is dead, Ray tells apart by itself.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TIMES = 5.0
"""Late is what has taken so many times the median of its kind ..."""
LEAST = 120.0
"""... and at least so many seconds."""
KNOWN = 5
"""Ends of a kind after which its median says something."""


class Stragglers:
    """Times pieces of work by kind; threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._out: dict[int, tuple[str, str, float]] = {}
        """Number -> kind, words and beginning of what is not done yet."""
        self._took: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=200))
        self._told: set[int] = set()
        self._numbers = 0

    @contextmanager
    def timing(self, kind: str, words: str) -> Iterator[None]:
        """Time a piece of work; one that raises says nothing about its kind."""
        with self._lock:
            self._numbers += 1
            number = self._numbers
            self._out[number] = (kind, words, self._clock())
        try:
            yield
            with self._lock:
                self._took[kind].append(self._clock() - self._out[number][2])
        finally:
            with self._lock:
                del self._out[number]
                self._told.discard(number)

    def late(self) -> list[str]:
        """What is late and has not been told yet, a line each."""
        found = []
        with self._lock:
            for number, (kind, words, began) in self._out.items():
                took, passed = self._took[kind], self._clock() - began
                if number in self._told or len(took) < KNOWN or passed < LEAST:
                    continue
                usual = statistics.median(took)
                if passed > TIMES * usual:
                    self._told.add(number)
                    found.append(
                        f"slow: {kind} {words} has been out for {passed:.0f} s; "
                        f"others took {usual:.1f} s"
                    )
        return found
