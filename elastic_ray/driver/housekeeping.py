"""Periodic work beside a running sweep: display, other drivers' records, tables, compaction."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable

from ..plan import Plan
from ..progress.budget import Budget
from ..progress.grid_rows import write_grid_rows
from ..progress.tracker import ProgressTracker
from ..results.compaction import compact
from ..results.errors import ResultsError
from ..results.store import Results
from .coordination import POLL_EVERY, StateCoordinator
from .progress_display import ProgressDisplay

REFRESH_EVERY = 0.5
"""Seconds between updates of the progress display."""
SLOW_EVERY = 5.0
"""Seconds between reports of work that is unusually slow."""
TABLES_EVERY = 30.0
"""Seconds between updates of the tables `cells`, `lessons` and `runs`."""
COMPACT_EVERY = 300.0
"""Seconds between compactions of small files."""


class Housekeeping:
    """The periodic work of one driver.

    `slow_work` returns messages about unusually slow work, each once. `requeue_postponed` lets
    trials run that were left to other drivers.
    """

    def __init__(
        self,
        plan: Plan,
        results: Results,
        tracker: ProgressTracker,
        coordinator: StateCoordinator,
        budget: Budget,
        display: ProgressDisplay,
        slow_work: Callable[[], Iterable[str]],
        requeue_postponed: Callable[[], None],
    ) -> None:
        self._plan, self._results, self._tracker = plan, results, tracker
        self._coordinator, self._budget, self._display = coordinator, budget, display
        self._slow_work, self._requeue_postponed = slow_work, requeue_postponed
        self._unreachable = False
        """Whether the results could not be read at the last poll."""

    async def run(self) -> None:
        """Do all periodic work until cancelled."""
        jobs: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (SLOW_EVERY, self._report_slow_work),
            (POLL_EVERY, self.poll_others),
            (TABLES_EVERY, self._write_tables),
            (COMPACT_EVERY, self._compact),
        ]
        last = dict.fromkeys(range(len(jobs)), time.monotonic())
        while True:
            self._display.refresh()
            for number, (interval, job) in enumerate(jobs):
                if time.monotonic() - last[number] > interval:
                    last[number] = time.monotonic()
                    await job()
            await asyncio.sleep(REFRESH_EVERY)

    def write_grid_rows(self) -> None:
        """Bring the tables `cells` and `lessons` up to date; `ResultsError` if that fails."""
        write_grid_rows(self._results, self._plan, self._tracker)

    async def poll_others(self) -> None:
        """Take over what other drivers have recorded; report once if the results do not respond."""
        try:
            await asyncio.to_thread(self._coordinator.poll, self._requeue_postponed)
        except (ResultsError, OSError) as e:  # the next poll tries again
            if not self._unreachable:
                self._display.notify(f"the results do not respond; what needs them waits: {e}")
            self._unreachable = True
        else:
            if self._unreachable:
                self._display.notify("the results respond again")
            self._unreachable = False

    async def _report_slow_work(self) -> None:
        for message in self._slow_work():
            self._display.notify(message)

    async def _write_tables(self) -> None:
        with contextlib.suppress(ResultsError):  # the last write, at the end, reports the error
            await asyncio.to_thread(self.write_grid_rows)
            await asyncio.to_thread(self._budget.record)

    async def _compact(self) -> None:
        """Compact small files; on a remote store, which has no lock, that is left to the user."""
        if self._results.folder.local is None:
            return
        try:
            await asyncio.to_thread(compact, self._results)
        except (ResultsError, OSError) as e:
            self._display.notify(f"small files could not be compacted, will try again: {e}")
