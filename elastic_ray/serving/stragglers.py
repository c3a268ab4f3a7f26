"""Reports work that runs much longer than other work of its kind. Nothing is stopped for it.

A report is for a person, who may check the node. Ray itself detects processes that died. Pure.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SLOW_FACTOR = 5.0
"""Work is slow once it has run this many times the median of its kind ..."""
MIN_SECONDS = 120.0
"""... and at least this long (seconds)."""
MIN_SAMPLES = 5
"""Finished pieces of work of a kind from which on their median is used."""


@dataclass
class _Running:
    """A piece of work that has not finished."""

    kind: str
    label: str
    started: float
    expected_seconds: float | None
    reported: bool = False


class StragglerDetector:
    """Times pieces of work by kind. Threads may share a detector."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[int, _Running] = {}
        self._durations: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=200))
        """Seconds that the last pieces of work of each kind took."""
        self._started_count = 0

    @contextmanager
    def timing(
        self, kind: str, label: str, expected_seconds: float | None = None
    ) -> Iterator[None]:
        """Time the block as one piece of work of `kind`; a block that raises is not counted.

        `expected_seconds` stands in for the median while fewer than `MIN_SAMPLES` pieces of the
        kind have finished. Without it such work is never reported.
        """
        with self._lock:
            self._started_count += 1
            number = self._started_count
            running = _Running(kind, label, self._clock(), expected_seconds)
            self._running[number] = running
        try:
            yield
            with self._lock:
                self._durations[kind].append(self._clock() - running.started)
        finally:
            with self._lock:
                del self._running[number]

    def new_reports(self) -> list[str]:
        """Return a message for each piece of work that is slow and was not reported before."""
        reports = []
        with self._lock:
            for work in self._running.values():
                durations, seconds = self._durations[work.kind], self._clock() - work.started
                if len(durations) >= MIN_SAMPLES:
                    usual = statistics.median(durations)
                    comparison = f"the median is {usual:.1f} s"
                elif work.expected_seconds is not None:
                    usual = work.expected_seconds
                    comparison = f"about {usual:.0f} s is usual"
                else:
                    continue
                if not work.reported and seconds >= max(MIN_SECONDS, SLOW_FACTOR * usual):
                    work.reported = True
                    reports.append(
                        f"slow: {work.kind} {work.label}".rstrip()
                        + f" is still running after {seconds:.0f} s; {comparison}"
                    )
        return reports
