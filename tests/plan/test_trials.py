"""Tests of `bundle`: trials are long enough to make start-up negligible, and no slot is idle."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sweeps import plain, plan_of, spec_of, specs

from elastic_ray.plan import STARTUP_SECONDS, Ladder, Rung, Trial, bundle
from elastic_ray.plan.identity import Stage
from elastic_ray.plan.trials import STARTUPS_PER_TRIAL, TRIALS_PER_SLOT
from elastic_ray.spec import Recipe, Spec

Seconds = Callable[[Ladder], float]
slot_counts = st.sampled_from([1, 2, 3, 8, 64])
spans = st.sampled_from([1, 10, 100, 1000])


def spread(span: int) -> Seconds:
    """Return a function that maps a ladder's id to a duration from 1 to `span` seconds."""
    return lambda ladder: 1 + zlib.crc32(ladder.id.encode()) % span


def unfinished(ladders: Sequence[Ladder], divisor: int) -> list[Ladder]:
    """Return about one in `divisor` of the ladders, as a resumed sweep has left to train."""
    return [la for la in ladders if zlib.crc32(la.id[::-1].encode()) % divisor == 0]


def limit(cost: dict[str, float], slots: int) -> float:
    """Return the maximum duration (seconds) of a trial that has more than one ladder."""
    fair = sum(cost.values()) / (slots * TRIALS_PER_SLOT)
    longest = STARTUPS_PER_TRIAL * STARTUP_SECONDS
    return longest if slots == 1 else min(longest, max(fair, STARTUP_SECONDS))


@given(specs(), slot_counts, spans, st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_no_ladder_is_lost_or_repeated(spec: Spec, slots: int, span: int, divisor: int) -> None:
    ladders = unfinished(plan_of(spec).ladders, divisor)
    trials = bundle(ladders, spread(span), slots)
    found = Counter(ladder.id for trial in trials for ladder in trial.ladders)
    assert found == Counter(ladder.id for ladder in ladders)
    assert len({trial.name for trial in trials}) == len(trials)
    for trial in trials:
        assert {ladder.task for ladder in trial.ladders} == {trial.task}
        assert trial.seconds == pytest.approx(sum(map(spread(span), trial.ladders)))


@given(specs(), slot_counts, spans, st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_parents_come_before_their_children(
    spec: Spec, slots: int, span: int, divisor: int
) -> None:
    ladders = unfinished(plan_of(spec).ladders, divisor)
    made = {rung.state_id for ladder in ladders for rung in ladder.rungs}
    for trial in bundle(ladders, spread(span), slots):
        own = {rung.state_id for ladder in trial.ladders for rung in ladder.rungs}
        before: set[str] = set()
        for ladder in trial.ladders:
            parent = ladder.parent_id
            assert parent in before or parent in trial.needs
            assert (parent in trial.needs) == (parent not in own)
            before |= {rung.state_id for rung in ladder.rungs}
        assert trial.needs == {need for la in trial.ladders for need in la.needs} - own
        states = {need for need in trial.needs if isinstance(need, str)}
        assert all(need in made or divisor > 1 or need in plan_of(spec).starts for need in states)


@given(specs(), slot_counts, spans, st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_dependencies_between_trials_have_no_cycle(
    spec: Spec, slots: int, span: int, divisor: int
) -> None:
    ladders = unfinished(plan_of(spec).ladders, divisor)
    missing = {rung.state_id for ladder in ladders for rung in ladder.rungs}
    waiting = list(bundle(ladders, spread(span), slots))
    while waiting:
        # A teacher's answers need only the teacher's state.
        ready = [
            trial
            for trial in waiting
            if not missing & {getattr(need, "state_id", need) for need in trial.needs}
        ]
        assert ready
        for trial in ready:
            missing -= {rung.state_id for ladder in trial.ladders for rung in ladder.rungs}
        waiting = [trial for trial in waiting if trial not in ready]


@given(specs(), slot_counts, spans, st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_trials_stay_below_the_limit(spec: Spec, slots: int, span: int, divisor: int) -> None:
    ladders = unfinished(plan_of(spec).ladders, divisor)
    cost = {ladder.id: spread(span)(ladder) for ladder in ladders}
    for trial in bundle(ladders, spread(span), slots):
        assert len(trial.ladders) == 1 or trial.seconds <= limit(cost, slots) + 1e-6


@given(specs(), spans)
@settings(max_examples=100, deadline=None)
def test_one_slot_gets_few_trials(spec: Spec, span: int) -> None:
    """Among trials with the same parent ladder (or without one), at most one is under half full."""
    ladders = plan_of(plain(spec)).ladders
    trials = bundle(ladders, spread(span), 1)
    longest = STARTUPS_PER_TRIAL * STARTUP_SECONDS
    parents = {la.parent_id for la in ladders} & {r.state_id for la in ladders for r in la.rungs}
    with_children = {la.id for la in ladders if any(r.state_id in parents for r in la.rungs)}
    sets = len(with_children) + len({la.task for la in ladders})
    total = sum(map(spread(span), ladders))
    assert len(trials) <= 2 * total / longest + sets
    if total <= longest:
        assert len(trials) == len({la.task for la in ladders})


@given(specs(), st.sampled_from([2, 3, 8]), spans, st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_many_slots_all_get_trials(spec: Spec, slots: int, span: int, divisor: int) -> None:
    ladders = unfinished(plan_of(spec).ladders, divisor)
    cost = {ladder.id: spread(span)(ladder) for ladder in ladders}
    total, trials = sum(cost.values()), bundle(ladders, spread(span), slots)
    # This holds if there is at least one start-up of work per slot and no ladder exceeds the limit.
    if total >= slots * STARTUP_SECONDS and max(cost.values()) <= limit(cost, slots):
        assert len(trials) >= slots
    if total >= slots * TRIALS_PER_SLOT * STARTUP_SECONDS and max(cost.values()) <= limit(
        cost, slots
    ):
        assert len(trials) >= slots * TRIALS_PER_SLOT


def ladder(name: str, parent: str) -> Ladder:
    stage = Stage("positive", "positive", 0, Recipe(), "data")
    return Ladder(parent, stage, (Rung(name, 8),), "reviews", "engine")


def names(trials: Sequence[Trial]) -> list[list[str]]:
    return [[la.id for la in trial.ladders] for trial in trials]


def test_a_wide_tree_keeps_every_slot_busy_once_its_root_is_trained() -> None:
    ladders = [ladder("root", "start"), *(ladder(f"child {i}", "root") for i in range(16))]
    seconds: dict[str, float] = {"root": 10.0}
    trials = bundle(ladders, lambda la: seconds.get(la.id, 100.0), slots=4)
    ready = [trial for trial in trials if trial.needs == {"root"}]
    assert len(ready) >= 4 * TRIALS_PER_SLOT
    assert max(trial.seconds for trial in ready) <= 1610 / 4


def test_the_longest_downstream_work_starts_first() -> None:
    ladders = [
        ladder("short", "start"),
        ladder("long", "start"),
        ladder("longer", "long"),
        ladder("longest", "longer"),
    ]
    trials = bundle(ladders, lambda la: 150.0, slots=4)
    assert names(trials) == [["long"], ["longer"], ["longest"], ["short"]]
    downstream = [trial.downstream_seconds for trial in trials]
    assert downstream == sorted(downstream, reverse=True) and downstream[0] == 450


def test_children_that_do_not_fit_with_their_parent_share_a_trial() -> None:
    ladders = [ladder("root", "start"), *(ladder(f"child {i}", "root") for i in range(10))]
    s = STARTUP_SECONDS
    trials = bundle(ladders, lambda la: 9.5 * s if la.id == "root" else 0.75 * s, slots=1)
    assert [len(trial.ladders) for trial in trials] == [1, 10]


def test_work_shorter_than_a_start_up_is_not_split() -> None:
    ladders = [ladder(f"{i}", "start") for i in range(10)]
    (trial,) = bundle(ladders, lambda la: STARTUP_SECONDS / 20, slots=16)
    assert trial.seconds == pytest.approx(STARTUP_SECONDS / 2) and trial.needs == {"start"}


def test_ladders_of_different_tasks_are_not_mixed() -> None:
    plan = plan_of(spec_of(task=["reviews", "imdb"]))
    trials = bundle(plan.ladders, lambda la: 0.1, slots=1)
    assert sorted(trial.task for trial in trials) == ["imdb", "reviews"]


def test_no_ladders_give_no_trials() -> None:
    assert bundle([], lambda la: 1.0, slots=4) == ()
