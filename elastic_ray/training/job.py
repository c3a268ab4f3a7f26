"""What a worker group is given to train, and what it reports; light values that pickle."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from ..plan import Ladder, Rung
from ..results.state_rows import PlannedState
from ..spec import Runtime


@dataclass(frozen=True)
class TrainJob:
    """Ladders to train in order, a parent before the ladders that start from it."""

    sweep: str
    trial: str
    results: str
    """URI of the results."""
    task: str
    data: Mapping[str, Any]
    """The task's settings, as in the sweep file."""
    ladders: tuple[Ladder, ...]
    runtime: Runtime
    """The shape of the worker group, and how a ladder is executed that has no `runtimes`."""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    """State id -> its recipe as JSON values, recorded with the state."""
    git_revision: str | None = None
    remade: frozenset[str] = frozenset()
    """Recorded states whose checkpoint was deleted and is to be trained again."""
    trusted: frozenset[str] = frozenset()
    """Engine groups whose models may run code of their own."""
    nodes: tuple[str, ...] = ()
    """Id of the Ray node of each worker; empty lets Ray choose."""
    runtimes: Mapping[str, Runtime] = field(default_factory=dict)
    """How a ladder is executed, by its id."""
    began: float = field(default_factory=time.time)
    """When the sweep began, in seconds since 1970."""

    def runtime_of(self, ladder: Ladder) -> Runtime:
        """Return how a ladder is executed."""
        return self.runtimes.get(ladder.id, self.runtime)

    def planned_state(self, ladder: Ladder, rung: Rung) -> PlannedState:
        """Return the columns of a rung's record that are known before it is trained."""
        return PlannedState(
            state_id=rung.state_id,
            parent_id=ladder.parent_id,
            kind=ladder.stage.kind,
            examples=rung.examples,
            lineage=self.lineage.get(rung.state_id),
            sweep=self.sweep,
        )


class WorkerReport(TypedDict, total=False):
    """What a worker group reports, about twice a second and at its end."""

    ladder: str
    """Id of the ladder that trains now."""
    examples: int
    """Examples of that ladder trained so far."""
    recorded: Sequence[str]
    """States recorded since the last report."""
    failed: Sequence[tuple[str, str]]
    """States that failed since the last report, and their errors."""
    seconds: Mapping[str, float]
    """Seconds spent on finished ladders so far, by kind of work: "load models", "train" (steps),
    "save snapshots" and "save points" (while training waits)."""
    preempted: bool
    """Whether the group stops early and its ladders continue in another one: one of its nodes is
    being preempted, or closed ladders keep GPU memory."""
    ended: bool
    """Whether the job has ended; in its last report."""


class TrainingError(RuntimeError):
    """A ladder cannot be trained; the message is recorded with its states."""
