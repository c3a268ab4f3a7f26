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


class StragglerDetector:
    """Times pieces of work by kind; threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._out: dict[int, tuple[str, str, float, float | None]] = {}
        """Number -> kind, words, beginning and usual seconds of what is not done yet."""
        self._took: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=200))
        self._told: set[int] = set()
        self._numbers = 0

    @contextmanager
    def timing(self, kind: str, words: str, usual: float | None = None) -> Iterator[None]:
        """Time a piece of work; one that raises says nothing about its kind.

        `usual`: seconds that it is taken to need while too few of its kind are known.
        """
        with self._lock:
            self._numbers += 1
            number = self._numbers
            self._out[number] = (kind, words, self._clock(), usual)
        try:
            yield
            with self._lock:
                self._took[kind].append(self._clock() - self._out[number][2])
        finally:
            with self._lock:
                del self._out[number]
                self._told.discard(number)

    def new_reports(self) -> list[str]:
        """What is late and has not been told yet, a line each."""
        found = []
        with self._lock:
            for number, (kind, words, began, usual) in self._out.items():
                took, passed = self._took[kind], self._clock() - began
                if len(took) >= KNOWN:
                    usual = statistics.median(took)
                    like = f"others took {usual:.1f} s"
                elif usual is not None:
                    like = f"{usual:.0f} s are usual"
                else:
                    continue
                if number not in self._told and passed >= max(LEAST, TIMES * usual):
                    self._told.add(number)
                    found.append(f"slow: {kind} {words} has taken {passed:.0f} s so far; {like}")
        return found
