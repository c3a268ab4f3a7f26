"""What a run does now and how much it has done, for the progress display, metrics and summary.

Nothing here decides what runs next; `tracker.ProgressTracker` holds what does.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict


class RunActivity:
    """Activities, work times and counts of one run; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: dict[str, tuple[str, float | None]] = {}
        """Key -> the text, and when the activity began if the text shall say for how long."""
        self.started = time.monotonic()
        """Start of the run, on the monotonic clock (seconds)."""
        self.progress_line = ""
        """The last progress line shown; the sweep lease hands it to `--status --follow`."""
        self.seconds: dict[str, float] = defaultdict(float)
        """Kind of work -> seconds, summed over trainers and replicas."""
        self.counts: dict[str, int] = defaultdict(int)
        """Name of a counter -> its value since the run began."""

    def set(self, key: str, text: str, timed: bool = False) -> None:
        """Add an activity that is going on now, or change its text.

        Where `timed`, the text is shown with the time since the activity was added.
        """
        with self._lock:
            _, began = self._current.get(key, ("", time.monotonic()))
            self._current[key] = (text, began if timed else None)

    def clear(self, key: str) -> None:
        """Remove an activity that has ended."""
        with self._lock:
            self._current.pop(key, None)

    @property
    def current(self) -> list[str]:
        """The texts of what is going on now, the oldest first."""
        with self._lock:
            current = list(self._current.values())
        now = time.monotonic()
        return [
            text if began is None else f"{text}, {clock(now - began)} so far"
            for text, began in current
        ]

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def add_seconds(self, kind: str, seconds: float) -> None:
        """Count seconds of one kind of work."""
        with self._lock:
            self.seconds[kind] += seconds

    def add_count(self, name: str, number: int) -> None:
        """Increase a counter."""
        with self._lock:
            self.counts[name] += number


def clock(seconds: float) -> str:
    """Return a duration as "1:02:03" or "2:03"."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
