"""What a worker group is asked to train; plain values that pickle and import nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..plan import Ladder, Rung
from ..results.state_rows import PlannedState
from ..spec import Runtime


@dataclass(frozen=True)
class TrainJob:
    """Ladders to walk, in order, a parent before what starts from it.

    `results` is a URI; `task` and `data` as in the sweep file; `lineage` is recorded with each
    state. `remade` are states on record whose checkpoint was deleted and is wanted again;
    `trusted` the engine groups whose models may run code of their own. `nodes` are the ids of the
    Ray nodes that the workers run on, one each; empty: wherever Ray finds room.
    """

    sweep: str
    trial: str
    results: str
    task: str
    data: Mapping[str, Any]
    ladders: tuple[Ladder, ...]
    runtime: Runtime
    lineage: Mapping[str, Any] = field(default_factory=dict)
    git_revision: str | None = None
    remade: frozenset[str] = frozenset()
    trusted: frozenset[str] = frozenset()
    nodes: tuple[str, ...] = ()

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


class TrainingError(RuntimeError):
    """A ladder cannot be trained; the message is recorded with its states."""
