"""Derives what is left to do from a plan and the recorded states (pure).

`outstanding` returns the ladders to train, the start states to make, and the recorded states whose
checkpoint must be made again because it was deleted and something still needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..plan import Ladder, Plan

PERMANENT_ERROR = "diverged"
"""Errors that begin with this would repeat themselves; after all others a state is tried again."""


@dataclass(frozen=True)
class RecordedState:
    """What the `states` table says of a state; `kept`: its checkpoint has not been deleted."""

    done: bool
    error: str | None
    kept: bool


@dataclass(frozen=True)
class Outstanding:
    """What is left to do, in the plan's order."""

    starts: tuple[str, ...]
    """Start states to make."""
    ladders: tuple[Ladder, ...]
    """Ladders to train."""
    remade: frozenset[str]
    """Recorded states that are made again: their checkpoint is needed, or the checkpoint that
    their adapters are applied to."""
    failed: Mapping[str, str]
    """States that failed permanently, or whose parent did, with their errors."""


def outstanding(
    plan: Plan, recorded: Mapping[str, RecordedState], needed: Iterable[str]
) -> Outstanding:
    """Return what is left; `needed` are states that an open evaluation request still needs."""
    made_by = {rung.state_id: ladder for ladder in plan.ladders for rung in ladder.rungs}
    failed: dict[str, str] = {}
    for state in plan.states:  # parents before children
        row = recorded.get(state)
        parent = next((each for each in plan.states[state].made_from if each in failed), None)
        if row and not row.done and (row.error or "").startswith(PERMANENT_ERROR):
            failed[state] = row.error or PERMANENT_ERROR
        elif parent is not None and not (row and row.done):
            failed[state] = f"parent {parent} failed: {failed[parent]}"

    ladders: set[str] = set()
    starts: set[str] = set()
    remade: set[str] = set()
    todo: list[str] = []
    """States whose checkpoint must be available."""

    def train(ladder: Ladder) -> None:
        if ladder.id not in ladders:
            ladders.add(ladder.id)
            todo.append(ladder.parent_id)

    def kept(state: str) -> bool:
        return _done(recorded, state) and recorded[state].kept

    for ladder in plan.ladders:
        states = [rung.state_id for rung in ladder.rungs]
        if any(state not in failed and not _done(recorded, state) for state in states):
            train(ladder)
    todo += needed
    seen: set[str] = set()
    while todo:
        state = todo.pop()
        # An adapter is of use only together with the full weights below it.
        if state in seen or state in failed or (kept(state) and kept(plan.full_ancestor(state))):
            continue
        seen.add(state)
        if _done(recorded, state):
            remade.add(state)
        if state in plan.starts:
            starts.add(state)
        else:
            train(made_by[state])
    return Outstanding(
        tuple(state for state in plan.starts if state in starts),
        tuple(ladder for ladder in plan.ladders if ladder.id in ladders),
        frozenset(remade),
        failed,
    )


def _done(recorded: Mapping[str, RecordedState], state: str) -> bool:
    row = recorded.get(state)
    return row is not None and row.done
