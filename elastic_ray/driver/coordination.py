"""What this driver computes, and what it leaves to other sweeps' drivers on the same results.

Two sweeps may share a results folder and even states (design, rule 2). A state is claimed before it
is computed; one that another driver computes now is waited for, and taken from the record. While
another sweep runs, no checkpoint is deleted: it may be about to start from it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence

from ..progress.outstanding import PERMANENT_ERROR
from ..progress.tracker import ProgressTracker
from ..results.errors import ResultsError
from ..results.leases.state_claims import StateClaims
from ..results.leases.sweep_lease import SweepLease, active_leases, lease_lock
from ..results.store import Results

LOOK = 3.0
"""Seconds between looks at what others have recorded."""


class StateCoordinator:
    """The claims of one driver; `remade` are states on record whose checkpoint is wanted again."""

    def __init__(
        self,
        results: Results,
        lease: SweepLease,
        tracker: ProgressTracker,
        remade: frozenset[str] = frozenset(),
    ) -> None:
        self._results, self._lease, self._tracker, self._remade = results, lease, tracker, remade
        self._claims = StateClaims(results.folder, lease)
        self._lock = threading.Lock()
        self._mine: set[str] = set()
        self._over: set[str] = set()
        self._elsewhere: set[str] = set()
        tracker.listen(self._heard)

    def take(self, names: Sequence[str]) -> bool:
        """Claim states to compute; False where another driver computes one of them now, or the
        store cannot be asked: then they are asked for again at the next `look`."""
        try:
            taken = self._claims.claim(names)
        except (ResultsError, OSError) as e:
            logging.getLogger(__name__).warning("states cannot be claimed for now: %s", e)
            taken = False
        with self._lock:
            (self._mine if taken else self._elsewhere).update(names)
        return taken

    def free(self, names: Sequence[str]) -> None:
        """Give up claims."""
        self._claims.release(names)

    def look(self, again: Callable[[], None]) -> None:
        """Tell the board of what others have recorded, and free what is done here.

        `again` is called if anything was left to others. Where the store cannot be asked
        (`ResultsError`), all of it is looked at again the next time.
        """
        with self._lock:
            elsewhere, over = set(self._elsewhere), set(self._over)
        self._claims.release(over)
        for state in sorted(elsewhere):
            row = self._results.state(state)
            if row is None or state in self._tracker.done:
                continue
            if row["status"] == "done":
                if row["checkpoint"] is not None or state not in self._remade:
                    self._tracker.state_done(state)
            elif (row["error"] or "").startswith(PERMANENT_ERROR):
                self._tracker.state_failed(state, row["error"])
        with self._lock:
            self._elsewhere -= elsewhere
            self._over -= over
        if elsewhere:
            again()

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other sweep runs on these results; on a local folder none begins before the
        end. An object store has no lock: there only the new one's `SETTLE_SECONDS` lies between."""
        with lease_lock(self._results.folder):
            yield all(
                lease.token == self._lease.token for lease in active_leases(self._results.folder)
            )

    def _heard(self, event: str, state: str) -> None:
        if event in ("done", "failed"):
            with self._lock:
                if state in self._mine:
                    self._mine.discard(state)
                    self._over.add(state)
