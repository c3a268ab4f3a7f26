"""Coordinates this driver with drivers of other sweeps on the same results.

Two sweeps may share a results folder and even states (docs/concepts.md#rule-2). A driver claims a
state before it computes it. A state that another driver computes now is awaited, and then taken
from the record. While another sweep runs no checkpoint is deleted, because it may be about to start
from it.
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

POLL_EVERY = 3.0
"""Seconds between polls of what other drivers have recorded."""


class StateCoordinator:
    """The claims of one driver, and the states that it leaves to others; safe to use from threads.

    `remade` are recorded states whose checkpoint is to be made again.
    """

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
        self._claimed: set[str] = set()
        """States that this driver computes."""
        self._ended: set[str] = set()
        """Claimed states that are done or failed: their claims are released at the next poll."""
        self._elsewhere: set[str] = set()
        """States that another driver computes, or could not be claimed for lack of a response."""
        tracker.listen(self._on_tracker_event)

    def claim(self, names: Sequence[str]) -> bool:
        """Claim states to compute; return whether all of them are claimed now.

        Returns False where another driver computes one of them, or the store does not respond. The
        next `poll` looks at these states again.
        """
        try:
            claimed = self._claims.claim(names)
        except (ResultsError, OSError) as e:
            logging.getLogger(__name__).warning("states cannot be claimed for now: %s", e)
            claimed = False
        with self._lock:
            (self._claimed if claimed else self._elsewhere).update(names)
        return claimed

    def release(self, names: Sequence[str]) -> None:
        """Release claims of this driver."""
        self._claims.release(names)

    def poll(self, requeue: Callable[[], None]) -> None:
        """Report what others have recorded to the tracker, and release claims of ended states.

        Calls `requeue` if any state was left to others, so that it is tried again. Where the store
        does not respond (`ResultsError`), the next poll does all of this again.
        """
        with self._lock:
            elsewhere, ended = set(self._elsewhere), set(self._ended)
        self._claims.release(ended)
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
            self._ended -= ended
        if elsewhere:
            requeue()

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Yield whether no other sweep runs on these results.

        On a local folder no other sweep begins before the context ends. An object store has no
        lock: there only `SETTLE_SECONDS` of a new sweep's lease lie between.
        """
        with lease_lock(self._results.folder):
            yield all(
                lease.token == self._lease.token for lease in active_leases(self._results.folder)
            )

    def _on_tracker_event(self, event: str, state: str) -> None:
        if event in ("done", "failed"):
            with self._lock:
                if state in self._claimed:
                    self._claimed.discard(state)
                    self._ended.add(state)
