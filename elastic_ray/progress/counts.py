"""Counts cells and lessons by status: the one definition of a sweep's progress.

The screen, `--status` and the tables that the app reads all follow `ProgressTracker.status`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..plan import Point
from .tracker import ProgressTracker


@dataclass(frozen=True)
class PointCounts:
    """How many cells or lessons are done, failed and pending."""

    what: str
    done: int
    failed: int
    pending: int

    @property
    def total(self) -> int:
        return self.done + self.failed + self.pending

    @property
    def text(self) -> str:
        return (
            f"{self.what}: {self.done:,} done, {self.failed:,} failed, {self.pending:,} pending, "
            f"of {self.total:,}"
        )


def count_points(
    tracker: ProgressTracker, error: Callable[[Point], str | None] = lambda point: None
) -> list[PointCounts]:
    """Return the counts of the cells, and of the lessons if the plan has any.

    `error` returns the recorded error of a point, for a tracker restored from the results.
    """
    plan = tracker.plan
    groups: list[tuple[str, Iterable[Point]]] = [("cells", plan.cells)]
    if plan.lessons:
        groups.append(("lessons", plan.lessons))
    counted = []
    for what, points in groups:
        found = Counter(tracker.status(point, error(point))[0] for point in points)
        counted.append(PointCounts(what, found["done"], found["failed"], found["pending"]))
    return counted
