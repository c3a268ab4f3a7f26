"""Deletes checkpoints that the retention policy lets go, unless another sweep keeps them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable

from ..checkpoints.reference import CheckpointReference
from ..plan import Plan, keeps_checkpoint
from ..progress.retention import RetentionPolicy
from ..progress.tracker import ProgressTracker
from ..results.errors import ResultsError
from ..results.store import Results
from .coordination import StateCoordinator

OTHERS_CACHED = 10.0
"""Seconds for which it is remembered which states other sweeps keep."""
NOT_DELETED = (
    "another sweep runs on these results, so checkpoints that nothing needs any more were not "
    "deleted; once it has ended, the same command deletes them"
)


class CheckpointCleanup:
    """Deletes checkpoints during a run, whenever the tracker reports a change that lets them go."""

    def __init__(
        self, plan: Plan, tracker: ProgressTracker, results: Results, coordinator: StateCoordinator
    ) -> None:
        self._plan, self._results, self._coordinator = plan, results, coordinator
        self._policy = RetentionPolicy(plan, tracker)
        self._deleted: set[str] = set()
        self._kept_by_others: set[str] = set()
        self._others_read = -math.inf
        """Time of the last query for what other sweeps keep (monotonic clock)."""
        if plan.spec.keep != "all":
            tracker.listen(lambda event, state: self._delete(self._policy.deletable_after(state)))

    def delete_remaining(self) -> str | None:
        """Delete all checkpoints that may go by now.

        Returns a message for the user if some were not deleted because another sweep runs.
        """
        rows = self._results.states(("checkpoint",))
        existing = {state for state, row in rows.items() if row["checkpoint"]}
        states = [s for s in self._plan.states if s in existing and self._policy.may_delete(s)]
        return None if self._delete(states) else NOT_DELETED

    def _delete(self, states: Iterable[str]) -> bool:
        """Delete checkpoints; return False, and delete none, where another sweep runs."""
        for state in states:
            if state in self._deleted:
                continue
            # A full disk may refuse to record the deletion: then the checkpoint stays.
            with contextlib.suppress(ResultsError), self._coordinator.alone() as alone:
                if not alone:
                    return False
                if state in self._states_of_others():
                    continue
                self._deleted.add(state)
                row = self._results.state(state)
                if row and CheckpointReference.parse(row["checkpoint"] or "").stored:
                    self._results.delete_checkpoint(state)
        return True

    def _states_of_others(self) -> set[str]:
        """Return the states that other sweeps keep; one may have started and ended meanwhile."""
        if time.monotonic() - self._others_read > OTHERS_CACHED:
            parameters = {"sweep": self._plan.spec.sweep}
            rows = self._results.query("FROM states_of_others($sweep)", parameters).to_pylist()
            self._kept_by_others = {
                row["state_id"] for row in rows if keeps_checkpoint(row["keep"], row["kind"])
            }
            self._others_read = time.monotonic()
        return self._kept_by_others
