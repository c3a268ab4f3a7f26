"""What is left to do, and which checkpoints may be deleted: derived from the record alone."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sweeps import COMMIT, plan_of, spec_of, specs

from elastic_ray.plan import ANSWERS, CODE_LENGTH, QUERIES, EvaluationRequest, Ladder, Plan
from elastic_ray.progress.grid_rows import cell_rows, lesson_rows
from elastic_ray.progress.outstanding import Outstanding, RecordedState, outstanding
from elastic_ray.progress.retention import RetentionPolicy
from elastic_ray.progress.tracker import ProgressTracker
from elastic_ray.spec import Spec

DONE, DELETED = RecordedState(True, None, True), RecordedState(True, None, False)
DIVERGED = RecordedState(False, "diverged at step 3 of 9: loss nan", False)
CRASHED = RecordedState(False, "OSError: no space left", False)
HUB = {"name": "a-1b", "hub": "some/a-1b", "revision": COMMIT}
KINDS = (None, DONE, DELETED, DIVERGED, CRASHED)


def records(plan: Plan, dice: random.Random) -> dict[str, RecordedState]:
    """Return a random record of interrupted sweeps: a done state has a parent that was done."""
    weights = [dice.random() + 0.05 for _ in KINDS]
    found: dict[str, RecordedState] = {}
    for state, node in plan.states.items():
        (row,) = dice.choices(KINDS, weights)
        parent = found.get(node.parent_id or "")
        if row and row.done and node.parent_id and not (parent and parent.done):
            row = None
        if row:
            found[state] = row
    return found


def some(things: Iterable[Any], dice: random.Random) -> list[Any]:
    share = dice.random()
    return [thing for thing in things if dice.random() < share]


def carried_out(
    plan: Plan, recorded: dict[str, RecordedState], left: Outstanding
) -> tuple[set[str], set[str]] | None:
    """Return (done states, existing checkpoints) after all that is left; None if impossible."""
    done = {state for state, row in recorded.items() if row.done}
    there = {state for state in done if recorded[state].kept} | set(left.starts)
    done |= set(left.starts)
    for ladder in left.ladders:
        if not {ladder.parent_id, plan.full_ancestor(ladder.parent_id)} <= there:
            return None
        for rung in ladder.rungs:
            if rung.state_id not in done or rung.state_id in left.remade:
                done.add(rung.state_id)
                there.add(rung.state_id)
    return done, there


def complete(
    plan: Plan, recorded: dict[str, RecordedState], left: Outstanding, needed: set[str]
) -> bool:
    """Return whether what is left does all that is possible, and keeps what requests need."""
    outcome = carried_out(plan, recorded, left)
    if outcome is None:
        return False
    done, there = outcome
    trained = {s for s in plan.states if s not in plan.starts}
    return trained - set(left.failed) <= done and all(
        {state, plan.full_ancestor(state)} <= there for state in needed - set(left.failed)
    )


@given(specs(), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_what_is_left_is_all_that_is_missing_and_nothing_else(spec: Spec, seed: int) -> None:
    plan, dice = plan_of(spec), random.Random(seed)
    recorded = records(plan, dice)
    needed = set(some({q.state_id for q in plan.requests()}, dice))
    left = outstanding(plan, recorded, needed)
    assert complete(plan, recorded, left, needed)
    for ladder in left.ladders:
        fewer = replace(left, ladders=tuple(la for la in left.ladders if la is not ladder))
        # One whose adapters are there passes by again when the weights below are made again.
        waits = any(
            recorded.get(r.state_id) == DONE for r in ladder.rungs if r.state_id in left.remade
        )
        assert waits or not complete(plan, recorded, fewer, needed)
    for start in left.starts:
        fewer = replace(left, starts=tuple(s for s in left.starts if s != start))
        assert not complete(plan, recorded, fewer, needed)
    for state in left.remade:
        assert recorded[state].done
        fewer = replace(left, remade=left.remade - {state})
        if recorded[state].kept:
            assert plan.full_ancestor(state) in left.remade - {state}
        elif state not in plan.starts:
            assert not complete(plan, recorded, fewer, needed)


@given(specs(), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_nothing_is_left_where_all_is_recorded_and_answered(spec: Spec, seed: int) -> None:
    plan, dice = plan_of(spec), random.Random(seed)
    recorded = {state: dice.choice((DONE, DELETED)) for state in plan.states}
    assert outstanding(plan, recorded, []) == Outstanding((), (), frozenset(), {})


@given(specs())
@settings(max_examples=50, deadline=None)
def test_all_is_left_where_nothing_is_recorded(spec: Spec) -> None:
    plan = plan_of(spec)
    left = outstanding(plan, {}, {q.state_id for q in plan.requests()})
    assert left == Outstanding(tuple(plan.starts), plan.ladders, frozenset(), {})


@given(specs(), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_a_diverged_state_stays_failed_and_so_do_its_descendants(spec: Spec, seed: int) -> None:
    plan, dice = plan_of(spec), random.Random(seed)
    recorded = records(plan, dice)
    left = outstanding(plan, recorded, [])
    for state, node in plan.states.items():
        row, above = recorded.get(state), [s for s in node.made_from if s in left.failed]
        if row == DIVERGED:
            assert left.failed[state] == DIVERGED.error
        elif above and not (row and row.done):
            assert left.failed[state] == f"parent {above[0]} failed: {left.failed[above[0]]}"
        else:
            assert state not in left.failed
    assert not {la.parent_id for la in left.ladders} & set(left.failed)


# By hand


def small(**changes: Any) -> Plan:
    """One base, positive 8 and 16 on one run, and negative 8 of each."""
    return plan_of(spec_of(models=[HUB], positive=[8, 16], negative=[8], **changes))


def state(plan: Plan, positive: int, negative: int) -> str:
    (found,) = [c for c in plan.cells if (c.positive, c.negative) == (positive, negative)]
    return found.state_id


def runs(plan: Plan, left: Outstanding) -> list[list[tuple[int, int]]]:
    """The cells on each ladder that is left."""
    points = {c.state_id: (c.positive, c.negative) for c in plan.cells}
    return [[points[rung.state_id] for rung in ladder.rungs] for ladder in left.ladders]


def test_a_deleted_parent_is_made_again_for_a_new_child() -> None:
    plan = small()
    recorded = {s: DELETED for s in plan.states}
    del recorded[state(plan, 16, 8)]
    left = outstanding(plan, recorded, [])
    assert left.starts == (state(plan, 0, 0),)
    assert left.remade == {state(plan, 0, 0), state(plan, 16, 0)}
    assert runs(plan, left) == [[(8, 0), (16, 0)], [(16, 8)]]
    # With the positive state's checkpoint, only the child is trained.
    recorded[state(plan, 16, 0)] = DONE
    left = outstanding(plan, recorded, [])
    assert (left.starts, left.remade, runs(plan, left)) == ((), frozenset(), [[(16, 8)]])


def test_a_new_request_for_a_deleted_state_makes_it_again() -> None:
    plan = small()
    recorded = {s: DELETED for s in plan.states} | {state(plan, 0, 0): DONE}
    left = outstanding(plan, recorded, [state(plan, 8, 0)])
    assert left.remade == {state(plan, 8, 0)}
    assert runs(plan, left) == [[(8, 0), (16, 0)]]


def test_an_adapter_needs_the_weights_below() -> None:
    plan = small(training={"positive": {"lora": {}}})
    recorded = {s: DONE for s in plan.states} | {state(plan, 0, 0): DELETED}
    left = outstanding(plan, recorded, [state(plan, 8, 0)])
    assert left.starts == (state(plan, 0, 0),)
    # It waits for them: its run passes by, and finds its checkpoint.
    assert left.remade == {state(plan, 0, 0), state(plan, 8, 0)}
    # A full state of its own weights needs nothing.
    left = outstanding(plan, recorded, [state(plan, 8, 8)])
    assert left == Outstanding((), (), frozenset(), {})


@pytest.mark.parametrize("row", [CRASHED, None])
def test_other_failures_are_tried_again(row: RecordedState | None) -> None:
    plan = small()
    recorded = {s: DONE for s in plan.states}
    recorded.pop(state(plan, 8, 8))
    if row:
        recorded[state(plan, 8, 8)] = row
    left = outstanding(plan, recorded, [])
    assert runs(plan, left) == [[(8, 8)]] and not left.failed


def test_a_run_that_diverged_is_not_tried_again_for_a_child() -> None:
    plan = small()
    recorded = {state(plan, 0, 0): DONE, state(plan, 8, 0): DONE, state(plan, 16, 0): DIVERGED}
    left = outstanding(plan, recorded, {q.state_id for q in plan.requests()})
    assert runs(plan, left) == [[(8, 8)]]
    assert set(left.failed) == {state(plan, 16, 0), state(plan, 16, 8)}


# Which checkpoints may go


class Simulation:
    """A sweep in random order: each step makes a start or a rung, or ends a request, and
    deletes the checkpoints that the retention policy lets go."""

    def __init__(
        self,
        plan: Plan,
        recorded: dict[str, RecordedState],
        closed: Iterable[EvaluationRequest],
        dice: random.Random,
    ) -> None:
        self.plan, self.dice = plan, dice
        requests = plan.requests()
        closed = {request for request in closed if request in requests}
        still = {state for q in requests if q not in closed for state in q.states}
        left = outstanding(plan, recorded, still)
        done = {s for s, row in recorded.items() if row.done and s in plan.states}
        self.there = {s for s in done if recorded[s].kept}
        self.tracker = ProgressTracker(plan, done - left.remade, closed, closed)
        self.tracker.failed.update(left.failed)
        self.policy = RetentionPolicy(plan, self.tracker)
        self.left = left
        self.made: set[str] = set()
        self.points: dict[str, str] = {}
        """Ladder id -> state from which it continues if it is interrupted before its end."""
        self.tracker.listen(lambda event, state: self.delete(self.policy.deletable_after(state)))

    def delete(self, states: Iterable[str]) -> None:
        self.there -= set(states)

    def whole(self, state: str) -> bool:
        """Whether the checkpoint can be loaded."""
        return {state, self.plan.full_ancestor(state)} <= self.there

    def next_rung(self, ladder: Ladder) -> str | None:
        for rung in ladder.rungs:
            state = rung.state_id
            if state not in self.tracker.done and state not in self.tracker.failed:
                return state
        return None

    def steps(self) -> list[tuple[str, Any]]:
        """What can be done now, as the scheduler sees it: by the tracker alone."""
        tracker = self.tracker
        found: list[tuple[str, Any]] = [
            ("start", s) for s in self.left.starts if s not in self.made
        ]
        for ladder in self.left.ladders:
            if all(map(tracker.settled, ladder.needs)) and self.next_rung(ladder):
                found.append(("train", ladder))
        for request in self.plan.requests():
            still = request not in tracker.closed and request not in tracker.lost
            if tracker.done.issuperset(request.states) and still:
                found.append(("evaluate", request))
        return found

    def step(self, failures: bool) -> bool:
        """Take a step; False if there is none. Every checkpoint that it reads must exist."""
        steps = self.steps()
        if not steps:
            return False
        for kind, what in steps:
            read = what.states if kind == "evaluate" else ()
            read = (what.parent_id,) if kind == "train" else read
            assert all(map(self.whole, read)), f"{kind} {what}: a checkpoint is gone"
        assert all(self.whole(s) for s in self.points.values()), "a run could not go on"
        kind, what = self.dice.choice(steps)
        fails = failures and self.dice.random() < 0.1
        if kind == "start":
            self.made.add(what)
            self.there.add(what)
            self.tracker.state_done(what)
        elif kind == "evaluate":
            if fails:
                self.tracker.request_failed(what, "the engine died")
            else:
                self.tracker.request_closed(what)
        else:
            state = self.next_rung(what)
            assert state is not None
            if fails:
                for rung in what.rungs:
                    self.tracker.state_failed(rung.state_id, "no space left")
            else:
                self.there.add(state)
                self.points[what.id] = state
                self.tracker.state_done(state)
                if not self.next_rung(what):
                    del self.points[what.id]
        return True

    def end(self) -> None:
        """The last check of all states."""
        self.delete([s for s in self.plan.states if self.policy.may_delete(s)])

    def recorded(self) -> dict[str, RecordedState]:
        found = {s: RecordedState(True, None, s in self.there) for s in self.tracker.done}
        return {
            **{s: RecordedState(False, e, False) for s, e in self.tracker.failed.items()},
            **found,
        }


@given(specs(), st.integers(0, 2**32), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_checkpoint_is_deleted_that_is_still_needed(
    spec: Spec, seed: int, failures: bool
) -> None:
    """A sweep that is interrupted, perhaps changed to keep other checkpoints, and started again."""
    dice = random.Random(seed)
    plan = plan_of(spec)
    first = Simulation(plan, {}, [], dice)
    for _ in range(dice.randrange(3 * len(plan.states))):
        if not first.step(failures):
            first.end()
            break
    plan = plan_of(
        spec.model_copy(update={"keep": dice.choice(["all", "none", "base", spec.keep])})
    )
    # Answers may be requested anew (other sampling), which needs checkpoints that are deleted.
    closed = some(first.tracker.closed, dice) if dice.random() < 0.5 else first.tracker.closed
    again = Simulation(plan, first.recorded(), closed, dice)
    again.points = first.points
    while again.step(failures=False):
        pass
    again.end()
    assert again.tracker.done | set(plan.starts) >= set(plan.states)
    assert again.tracker.closed == set(plan.requests())
    kept = {s for s in again.there if s in plan.states}
    if plan.spec.keep == "none":
        assert not kept
    elif plan.spec.keep == "base":
        bases = {s for s, n in plan.states.items() if not n.stage or n.stage.kind == "pretrain"}
        assert kept <= bases


@given(specs(), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_at_the_end_exactly_the_kept_checkpoints_exist(spec: Spec, seed: int) -> None:
    plan = plan_of(spec)
    run = Simulation(plan, {}, [], random.Random(seed))
    while run.step(failures=False):
        pass
    run.end()
    bases = {s for s, n in plan.states.items() if not n.stage or n.stage.kind == "pretrain"}
    expected = {"all": set(plan.states), "base": bases, "none": set[str]()}
    assert run.there == expected[spec.keep]


@given(specs(), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_a_failed_state_keeps_the_checkpoint_it_starts_from(spec: Spec, seed: int) -> None:
    """The next run of the sweep tries again and need not make the parents again."""
    plan = plan_of(spec)
    run = Simulation(plan, {}, [], random.Random(seed))
    while run.step(failures=True):
        pass
    run.end()
    for state in run.tracker.failed:
        parent = plan.states[state].parent_id
        assert parent is None or parent not in run.tracker.done or run.whole(parent)
    lost = {state for request in run.tracker.lost for state in request.states}
    assert all(map(run.whole, lost))
    # Run again, it makes nothing twice.
    assert not outstanding(plan, run.recorded(), lost).remade


def test_states_that_learn_from_a_teacher_without_answers_fail() -> None:
    plan = small(lessons={"pairs": [[1, 2]], "queries": 8})
    tracker = ProgressTracker(plan, [*plan.starts], [], [])
    for size in (8, 16):
        tracker.state_done(state(plan, size, 0))
    ladders = {ladder.id: ladder for ladder in plan.ladders}
    taught = {lesson.direction: lesson for lesson in plan.lessons}
    inverse, forward = (ladders[taught[way].state_id] for way in ("inverse", "forward"))
    assert not all(map(tracker.settled, inverse.needs))
    tracker.request_closed(EvaluationRequest(state(plan, 8, 0), "reviews", QUERIES))
    assert all(map(tracker.settled, inverse.needs))
    tracker.request_failed(
        EvaluationRequest(state(plan, 16, 0), "reviews", QUERIES), "the engine died"
    )
    assert all(map(tracker.settled, forward.needs)) and tracker.finished(forward)
    rows = {row["direction"]: (row["status"], row["error"]) for row in lesson_rows(plan, tracker)}
    assert rows == {"inverse": ("pending", None), "forward": ("failed", "the engine died")}
    assert tracker.failed == {forward.id: "its teacher did not answer: the engine died"}


def test_more_pairs_leave_recorded_states_as_they_were() -> None:
    pairs = [[[1, 2]], [[1, 2], [1, 3]]]
    few, more = (
        plan_of(spec_of(models=[HUB], positive=[8, 16, 24], lessons={"pairs": each, "queries": 8}))
        for each in pairs
    )
    assert set(few.states) < set(more.states) and len(more.lessons) == 4
    recorded = {state: DONE for state in few.states}
    left = outstanding(more, recorded, [])
    assert len(left.ladders) == 2 and {lad.stage.kind for lad in left.ladders} == {"lesson"}


def test_a_cell_is_done_when_all_its_requests_are_closed() -> None:
    plan = small(probes={"code_length": {}})
    tracker = ProgressTracker(plan, plan.states, [], [])

    def base() -> tuple[str, str | None]:
        row = next(r for r in cell_rows(plan, tracker) if not r["positive"])
        return row["status"], row["error"]

    answers, lengths = (
        EvaluationRequest(state(plan, 0, 0), "reviews", kind) for kind in (ANSWERS, CODE_LENGTH)
    )
    assert base() == ("pending", None)
    tracker.request_closed(answers)
    assert base() == ("pending", None)
    tracker.request_failed(lengths, "the engine died")
    assert base() == ("failed", "the engine died")
    tracker.request_closed(lengths)
    assert base() == ("done", None)


def test_cells_have_a_status_and_an_error() -> None:
    plan = small()
    tracker = ProgressTracker(plan, [], [], [])
    tracker.state_done(state(plan, 0, 0))
    tracker.request_closed(EvaluationRequest(state(plan, 0, 0), "reviews", ANSWERS))
    tracker.state_failed(state(plan, 16, 0), "diverged")
    tracker.state_done(state(plan, 8, 0))
    tracker.request_failed(
        EvaluationRequest(state(plan, 8, 0), "reviews", ANSWERS), "the engine died"
    )
    rows = {
        (r["positive"], r["negative"]): (r["status"], r["error"]) for r in cell_rows(plan, tracker)
    }
    assert rows == {
        (0, 0): ("done", None),
        (8, 0): ("failed", "the engine died"),
        (8, 8): ("pending", None),
        (16, 0): ("failed", "diverged"),
        (16, 8): ("failed", f"parent {state(plan, 16, 0)} failed: diverged"),
    }
