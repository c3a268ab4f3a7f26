"""What the user sees while a sweep runs: a live panel in a terminal, plain lines elsewhere.

`quiet` sends what libraries print (Ray, DeepSpeed, vLLM, and their child processes) to a log file,
at the level of file descriptors, and keeps the real screen for this room alone.
"""

from __future__ import annotations

import time
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..plan import Ladder
from ..progress.tracker import ProgressTracker

LINE_EVERY = 15.0
"""Seconds between plain progress lines."""


class ProgressDisplay:
    """Shows a board; `seconds` estimates each ladder's work, `slots` how many train at a time."""

    def __init__(
        self,
        stream: TextIO,
        tracker: ProgressTracker,
        cost: dict[str, float],
        answer_cost: float,
        slots: int,
    ) -> None:
        self.console = Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
        self._tracker, self._cost, self._slots = tracker, cost, slots
        self._answer_cost = answer_cost
        self._ladders: dict[str, Ladder] = {ladder.id: ladder for ladder in tracker.plan.ladders}
        self._of = {rung.state_id: lad for lad in self._ladders.values() for rung in lad.rungs}
        self._questions = tracker.plan.requests()
        self._live: Live | None = None
        self._last = 0.0
        self._total = self._left()

    def trainers(self, slots: int) -> None:
        """So many train at a time from now on."""
        self._slots = max(1, slots)

    def say(self, words: str) -> None:
        """A line that stays."""
        self.console.print(words, markup=False)

    def start(self) -> None:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()

    def stop(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def refresh(self) -> None:
        """Bring the panel up to date, or print a line if the last one is old enough."""
        self._tracker.activity.progress_line = self._line()
        if self._live:
            self._live.update(self._panel())
        elif time.monotonic() - self._last >= LINE_EVERY:
            self._last = time.monotonic()
            self.say(self._tracker.activity.progress_line)

    def _counts(self) -> list[tuple[str, int, int, int]]:
        """(what, done, failed, all) of ladders, states, and states questioned."""
        tracker = self._tracker
        ladders = list(self._ladders.values())
        ended = [lad for lad in ladders if tracker.finished(lad)]
        broken = [lad for lad in ended if any(r.state_id in tracker.failed for r in lad.rungs)]
        lost = len(tracker.lost) + sum(q.state_id in tracker.failed for q in self._questions)
        return [
            ("ladders", len(ended) - len(broken), len(broken), len(ladders)),
            ("states", len(tracker.done), len(tracker.failed), len(tracker.plan.states)),
            ("questioned", len(tracker.closed), lost, len(self._questions)),
        ]

    def _left(self) -> tuple[float, float]:
        """Estimated seconds of training and of questioning that are left."""
        tracker = self._tracker
        training = 0.0
        for ladder in self._ladders.values():
            if not tracker.finished(ladder):
                share = 1 - tracker.examples.get(ladder.id, 0) / ladder.examples
                training += self._cost[ladder.id] * max(0.0, share)
        open_questions = len(self._questions) - len(tracker.closed) - len(tracker.lost)
        return training / self._slots, open_questions * self._answer_cost

    def remaining(self) -> float | None:
        """Seconds left, by how the estimate has held so far; None while that cannot be told."""
        elapsed = self._tracker.activity.elapsed
        at_first, now = max(self._total), max(self._left())
        done = at_first - now
        if elapsed < 10 or at_first <= 0 or done / at_first < 0.03:
            return None
        return elapsed * now / done

    def _line(self) -> str:
        counts = ", ".join(
            f"{what} {done}/{total}" + (f" ({failed} failed)" if failed else "")
            for what, done, failed, total in self._counts()
        )
        elapsed = self._tracker.activity.elapsed
        now = "; ".join(self._tracker.activity.current)
        return f"[{clock(elapsed)}] {counts}; left {self._eta()}" + (f"; {now}" if now else "")

    def _eta(self) -> str:
        left = self.remaining()
        return "?" if left is None else f"about {clock(left)}"

    def _panel(self) -> Group:
        grid = Table.grid(padding=(0, 2))
        for what, done, failed, total in self._counts():
            grid.add_row(
                what,
                ProgressBar(total=max(total, 1), completed=done + failed, width=40),
                f"{done}/{total}",
                Text(f"{failed} failed", style="red") if failed else Text(""),
            )
        elapsed = self._tracker.activity.elapsed
        status = Text(f"{clock(elapsed)} passed, {self._eta()} left", style="bold")
        lines = [
            Text("  " + words, style="dim") for words in self._tracker.activity.current[:8]
        ]
        return Group(grid, status, *lines)


def clock(seconds: float) -> str:
    """1:02:03, or 2:03."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
