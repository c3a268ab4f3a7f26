"""Deletes the checkpoints that may go (`keep` says which), unless another sweep wants them."""

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

LOOK = 10.0
"""Seconds for which it is remembered what other sweeps keep."""
LEFT = (
    "another sweep runs on these results, so checkpoints stay that could go; once it has ended, "
    "the same command deletes them"
)


class CheckpointCleanup:
    """Deletes a state's checkpoint once, after its record says so."""

    def __init__(
        self, plan: Plan, tracker: ProgressTracker, results: Results, sharing: StateCoordinator
    ) -> None:
        self._plan, self._results, self._sharing = plan, results, sharing
        self._keeper = RetentionPolicy(plan, tracker)
        self._deleted: set[str] = set()
        self._others: set[str] = set()
        self._asked = -math.inf
        if plan.spec.keep != "all":
            tracker.listen(lambda event, state: self._tidy(self._keeper.deletable_after(state)))

    def rest(self) -> str | None:
        """Delete all that may go by now; words for the user if something had to stay."""
        there = {s for s, row in self._results.states(("checkpoint",)).items() if row["checkpoint"]}
        states = [s for s in self._plan.states if s in there and self._keeper.may_delete(s)]
        return None if self._tidy(states) else LEFT

    def _tidy(self, states: Iterable[str]) -> bool:
        """False where another sweep runs here: nothing is deleted then."""
        for state in states:
            if state in self._deleted:
                continue
            # A disk that is full may refuse the record: then the checkpoint stays.
            with contextlib.suppress(ResultsError), self._sharing.alone() as alone:
                if not alone:
                    return False
                if state in self._kept_by_others():
                    continue
                self._deleted.add(state)
                row = self._results.state(state)
                if row and CheckpointReference.parse(row["checkpoint"] or "").stored:
                    self._results.delete_checkpoint(state)
        return True

    def _kept_by_others(self) -> set[str]:
        """States that other sweeps keep; one may have come and gone since the last look."""
        if time.monotonic() - self._asked > LOOK:
            asked = {"sweep": self._plan.spec.sweep}
            rows = self._results.query("FROM states_of_others($sweep)", asked).to_pylist()
            self._others = {r["state_id"] for r in rows if keeps_checkpoint(r["keep"], r["kind"])}
            self._asked = time.monotonic()
        return self._others
