"""What of a plan is left to do, told from the record alone (pure).

`outstanding` compares a plan with the recorded states and answers: which ladders must train, which
starts must be made, and which recorded states must be made again because their checkpoint was
deleted and something new starts from it, or asks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..plan import Ladder, Plan

FOR_GOOD = "diverged"
"""A failure that begins so would repeat itself; every other one is tried again."""


@dataclass(frozen=True)
class Recorded:
    """A state's record in short; `kept` says whether its checkpoint is there."""

    done: bool
    error: str | None
    kept: bool


@dataclass(frozen=True)
class Outstanding:
    """What must be done: `starts` to make, `ladders` to train, in the plan's order.

    `remade` are states that are recorded and pass by again because their checkpoint, or the one
    that their adapters lie on, must be made again first; `failed` are those that failed for good,
    with their errors.
    """

    starts: tuple[str, ...]
    ladders: tuple[Ladder, ...]
    remade: frozenset[str]
    failed: Mapping[str, str]


def outstanding(
    plan: Plan, recorded: Mapping[str, Recorded], unanswered: Iterable[str]
) -> Outstanding:
    """What is left, given the record; `unanswered` are states that some question still needs."""
    made_by = {rung.state_id: ladder for ladder in plan.ladders for rung in ladder.rungs}
    failed: dict[str, str] = {}
    for state in plan.states:  # parents before children
        row = recorded.get(state)
        lost = next((each for each in plan.states[state].made_from if each in failed), None)
        if row and not row.done and (row.error or "").startswith(FOR_GOOD):
            failed[state] = row.error or FOR_GOOD
        elif lost is not None and not (row and row.done):
            failed[state] = f"parent {lost} failed: {failed[lost]}"

    wanted: dict[str, Ladder] = {}
    starts: set[str] = set()
    remade: set[str] = set()
    todo: list[str] = []

    def train(ladder: Ladder) -> None:
        if ladder.id not in wanted:
            wanted[ladder.id] = ladder
            todo.append(ladder.parent_id)

    def kept(state: str) -> bool:
        return _done(recorded, state) and recorded[state].kept

    for ladder in plan.ladders:
        states = [rung.state_id for rung in ladder.rungs]
        if any(s not in failed and not _done(recorded, s) for s in states):
            train(ladder)
    todo += unanswered
    seen: set[str] = set()
    while todo:
        state = todo.pop()
        # Adapters are of use with the weights below them only.
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
        tuple(s for s in plan.starts if s in starts),
        tuple(ladder for ladder in plan.ladders if ladder.id in wanted),
        frozenset(remade),
        failed,
    )


def _done(recorded: Mapping[str, Recorded], state: str) -> bool:
    row = recorded.get(state)
    return row is not None and row.done
