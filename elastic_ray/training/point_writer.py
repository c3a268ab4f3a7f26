"""Writes resume points when they are due, at a speed that it measures."""

from __future__ import annotations

import logging
import time

from ..placement.point_policy import BYTES_PER_SECOND, point_is_due
from ..results.errors import ResultsError
from ..results.store import Results
from .agreement import first_of_ranks
from .resume_point import remove_older_points
from .trainer import Trainer


class PointWriter:
    """One rank's part in writing resume points; all ranks must call its methods alike."""

    def __init__(self, results: Results, rank: int, workers: int) -> None:
        self._results, self._rank, self._workers = results, rank, workers
        self._bytes_per_second: float | None = None
        """Speed of this rank's last point."""

    def is_due(self, trainer: Trainer, at_risk: float, snapshot_speed: float | None) -> bool:
        """Return whether to write a point now, as rank 0 decides.

        `at_risk` are the seconds of the steps since the last point or the ladder's start. Before
        the first point its speed is taken to be that of a snapshot in bytes per second, before the
        first snapshot `BYTES_PER_SECOND`.
        """
        due = None
        if self._rank == 0:
            speed = self._bytes_per_second or snapshot_speed or BYTES_PER_SECOND
            due = point_is_due(at_risk, trainer.point_bytes / speed)
        return bool(first_of_ranks(due, self._workers))

    def save(self, trainer: Trainer, ladder: str) -> None:
        """Save a point of the ladder and remove older ones.

        If that fails on a rank, it warns; older points stay, and the ladder goes on.
        """
        error, began = None, time.monotonic()
        try:
            trainer.save_resume_point()
            seconds = time.monotonic() - began
            self._bytes_per_second = trainer.point_bytes / max(1e-9, seconds)
        except (ResultsError, OSError) as e:
            error = str(e)
            logging.getLogger(__name__).warning("no resume point: %s", error)
        error = first_of_ranks(error, self._workers)
        if error is None and self._rank == 0:
            remove_older_points(self._results, ladder, trainer.step)
