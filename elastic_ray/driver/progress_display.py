"""What the user sees while a sweep runs: a live panel in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..plan import Ladder
from ..progress.activity import clock
from ..progress.counts import PointCounts, count_points
from ..progress.tracker import ProgressTracker

LINE_EVERY = 15.0
"""Seconds between progress lines where there is no live panel."""
TRUSTED_SHARE = 0.5
"""Share of the work after which the speed so far alone tells the time left."""
MAX_ACTIVITIES = 8
"""Activities shown in the panel."""


class ProgressDisplay:
    """Shows a tracker's progress on a stream.

    `ladder_seconds` estimates the training time of each ladder by its id, `request_seconds` the
    time of one evaluation request, `whole_seconds` the wall-clock time of the whole plan;
    `trainers` is how many ladders train at a time.
    """

    def __init__(
        self,
        stream: TextIO,
        tracker: ProgressTracker,
        ladder_seconds: dict[str, float],
        request_seconds: float,
        whole_seconds: float,
        trainers: int,
    ) -> None:
        self.console = Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
        self._tracker, self._activity = tracker, tracker.activity
        self._ladder_seconds, self._request_seconds = ladder_seconds, request_seconds
        self._trainers = trainers
        self._ladders: tuple[Ladder, ...] = tracker.plan.ladders
        self._requests = tracker.plan.requests()
        self._live: Live | None = None
        self._counted: list[PointCounts] = []
        self._count_again = 0.0
        self._last_line = 0.0
        whole = self._side_by_side(sum(ladder_seconds.values()), len(self._requests))
        self._work_at_start = self._work_left()
        self._expected = whole_seconds * self._work_at_start / whole if whole else 0.0
        """Seconds that this run is expected to take."""

    def set_trainers(self, trainers: int) -> None:
        """Set how many ladders train at a time from now on."""
        self._trainers = max(1, trainers)

    def notify(self, message: str) -> None:
        """Print a message that stays on the screen."""
        self.console.print(message, markup=False)

    def start(self) -> None:
        """Show the live panel, if the stream is a terminal."""
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()

    def stop(self) -> None:
        """Remove the live panel."""
        if self._live:
            self._live.stop()
            self._live = None

    def refresh(self) -> None:
        """Update the panel, or print a progress line if the last one is `LINE_EVERY` old."""
        self._activity.progress_line = self._line()
        if self._live:
            self._live.update(self._panel())
        elif time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            self.notify(self._activity.progress_line)

    def _counts(self) -> list[tuple[str, int, int, int]]:
        """Return (what, done, failed, total) of points, training runs, states and evaluations."""
        tracker = self._tracker
        ended = [ladder for ladder in self._ladders if tracker.finished(ladder)]
        failed = [
            ladder for ladder in ended if any(r.state_id in tracker.failed for r in ladder.rungs)
        ]
        lost = len(tracker.lost) + sum(each.state_id in tracker.failed for each in self._requests)
        return [
            *((c.what, c.done, c.failed, c.total) for c in self._points()),
            ("training runs", len(ended) - len(failed), len(failed), len(self._ladders)),
            ("states", len(tracker.done), len(tracker.failed), len(tracker.plan.states)),
            ("evaluations", len(tracker.closed), lost, len(self._requests)),
        ]

    def _points(self) -> list[PointCounts]:
        """Return the counts of cells and lessons; large sweeps are counted at 5% of the time."""
        began = time.monotonic()
        if began >= self._count_again:
            self._counted = count_points(self._tracker)
            ended = time.monotonic()
            self._count_again = ended + 20 * (ended - began)
        return self._counted

    def _work_left(self) -> float:
        """Return the estimated seconds of the longer of training and evaluation, side by side."""
        tracker = self._tracker
        training = 0.0
        for ladder in self._ladders:
            if not tracker.finished(ladder):
                share = 1 - tracker.examples.get(ladder.id, 0) / ladder.examples
                training += self._ladder_seconds[ladder.id] * max(0.0, share)
        open_requests = len(self._requests) - len(tracker.closed) - len(tracker.lost)
        return self._side_by_side(training, open_requests)

    def _side_by_side(self, training: float, requests: int) -> float:
        """Return the seconds of so much training beside so many evaluation requests."""
        return max(training / self._trainers, requests * self._request_seconds)

    def seconds_left(self) -> float:
        """Return the estimated seconds left."""
        at_start = self._work_at_start
        left = self._work_left() / at_start if at_start > 0 else 0.0
        return time_left(self._activity.elapsed, left, self._expected)

    def _line(self) -> str:
        counts = ", ".join(
            f"{done:,} of {total:,} {what}" + (f" ({failed:,} failed)" if failed else "")
            for what, done, failed, total in self._counts()
        )
        now = "; ".join(self._activity.current)
        elapsed = clock(self._activity.elapsed)
        return f"[{elapsed}] {counts}; {self._estimate()}" + (f"; now: {now}" if now else "")

    def _estimate(self) -> str:
        return f"about {clock(self.seconds_left())} left"

    def _panel(self) -> Group:
        grid = Table.grid(padding=(0, 2))
        for what, done, failed, total in self._counts():
            grid.add_row(
                what,
                ProgressBar(total=max(total, 1), completed=done + failed, width=40),
                f"{done:,} of {total:,}",
                Text(f"{failed} failed", style="red") if failed else Text(""),
            )
        elapsed = clock(self._activity.elapsed)
        status = Text(f"{elapsed} elapsed, {self._estimate()}", style="bold")
        activities = self._activity.current[:MAX_ACTIVITIES]
        return Group(grid, status, *(Text("  " + text, style="dim") for text in activities))


def time_left(elapsed: float, left: float, expected: float) -> float:
    """Return the estimated seconds left of a run.

    `elapsed` are the seconds so far, `left` the share of the work that is left, `expected` the
    seconds that the whole run was expected to take. The estimate moves from what was expected to
    the speed so far as work is done, because a run starts slowly: its processes start first.
    """
    done = 1.0 - left
    by_plan = expected * left
    if done <= 0.0:
        return max(by_plan - elapsed, by_plan / 2)
    trust = min(1.0, done / TRUSTED_SHARE)
    return trust * elapsed * left / done + (1.0 - trust) * by_plan
