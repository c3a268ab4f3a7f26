"""The queue of trials that may start now, in the plan's order (pure).

A trial becomes ready when every dependency of it is settled: recorded, or failed. Trials whose
process died go back to the front; trials with a state that another driver computes are postponed.
"""

from __future__ import annotations

import heapq
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..plan import Dependency, Trial

ATTEMPTS = 2
"""Attempts of a trial whose process dies. A second attempt gets past a transient fault, while a bug
fails twice. An attempt that ended because a node was lost or is being preempted does not count."""


class QueuedTrial(NamedTuple):
    """A trial and its unique position in the order; smaller positions start first."""

    position: int
    trial: Trial


@dataclass
class _Blocked:
    """A trial that waits for `open`, its dependencies that are not settled."""

    queued: QueuedTrial
    open: set[Dependency]


class ReadyQueue:
    """Trials by the order in which they may start. Safe to use from several threads.

    `is_settled` says whether a dependency is recorded or failed. The cost of `pop` does not grow
    with the number of blocked trials, because `update` re-checks only the trials that depend on the
    state that changed.
    """

    def __init__(self, trials: Sequence[Trial], is_settled: Callable[[Dependency], bool]) -> None:
        self._is_settled = is_settled
        self._lock = threading.Lock()
        self._ready: list[QueuedTrial] = []
        """A heap."""
        self._blocked: dict[str, list[_Blocked]] = defaultdict(list)
        """State id -> the trials that depend on the state, or on its answers."""
        self._postponed: list[QueuedTrial] = []
        self._attempts: dict[str, int] = {}
        """Trial name -> attempts that failed."""
        self._front = 0
        """The smallest position so far."""
        for position, trial in enumerate(trials):
            queued = QueuedTrial(position, trial)
            blocked = _Blocked(queued, set(trial.needs))
            for state in {_state_of(need) for need in trial.needs}:
                self._blocked[state].append(blocked)
            if not trial.needs:
                heapq.heappush(self._ready, queued)

    def update(self, state: str) -> None:
        """Move trials to the queue whose last open dependency was `state` or its answers."""
        with self._lock:
            still_blocked = []
            for blocked in self._blocked.pop(state, ()):
                here = {need for need in blocked.open if _state_of(need) == state}
                open_here = {need for need in here if not self._is_settled(need)}
                blocked.open -= here - open_here
                if open_here:
                    still_blocked.append(blocked)
                elif not blocked.open:
                    heapq.heappush(self._ready, blocked.queued)
            if still_blocked:
                self._blocked[state] = still_blocked

    def update_all(self) -> None:
        """Re-check every blocked trial."""
        for state in list(self._blocked):
            self.update(state)

    def pop(self) -> QueuedTrial | None:
        """Remove and return the first trial that is ready; None where there is none."""
        with self._lock:
            return heapq.heappop(self._ready) if self._ready else None

    def put_back(self, queued: QueuedTrial) -> None:
        """Return a trial that could not start to its position."""
        with self._lock:
            heapq.heappush(self._ready, queued)

    def postpone(self, queued: QueuedTrial) -> None:
        """Hold a trial back until `requeue_postponed`."""
        with self._lock:
            self._postponed.append(queued)

    def requeue_postponed(self) -> None:
        """Return all postponed trials to their positions."""
        with self._lock:
            for queued in self._postponed:
                heapq.heappush(self._ready, queued)
            self._postponed = []

    def retry(self, trial: Trial, counts: bool) -> bool:
        """Put a trial whose attempt ended early before all others.

        Returns False, and drops the trial, where this was the last of `ATTEMPTS`. `counts` is False
        for an attempt whose end was no fault of the trial.
        """
        with self._lock:
            attempts = self._attempts.get(trial.name, 0) + counts
            self._attempts[trial.name] = attempts
            if attempts >= ATTEMPTS:
                return False
            self._front -= 1
            heapq.heappush(self._ready, QueuedTrial(self._front, trial))
            return True

    def attempts(self, trial: Trial) -> int:
        """Return the number of failed attempts of a trial."""
        return self._attempts.get(trial.name, 0)

    def __len__(self) -> int:
        """Return the number of trials that are ready."""
        with self._lock:
            return len(self._ready)

    @property
    def exhausted(self) -> bool:
        """Whether no trial is ready, blocked or postponed."""
        with self._lock:
            return not (self._ready or self._blocked or self._postponed)


def _state_of(need: Dependency) -> str:
    """Return the id of the state that a dependency is about."""
    return need if isinstance(need, str) else need.state_id
