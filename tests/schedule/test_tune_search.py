"""The searcher starts trials in order, each once, when its dependencies are settled."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from fake_groups import FakeGroups
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sweeps import plan_of, spec_of, specs

pytest.importorskip("ray", reason="the training extra is not installed")
from elastic_ray.placement import TrainerSlot
from elastic_ray.plan import QUERIES, Plan, Trial, bundle
from elastic_ray.progress.grid_rows import Failure
from elastic_ray.progress.tracker import ProgressTracker
from elastic_ray.schedule.ready_queue import ATTEMPTS
from elastic_ray.schedule.trainer_slots import TrainerSlots
from elastic_ray.schedule.tune_search import SILENT_AFTER, TrialSearcher
from elastic_ray.spec import Spec


def unplaced(slots: int) -> TrainerSlots:
    """That many trainer slots, on no particular node."""
    return TrainerSlots([TrainerSlot(())] * slots, FakeGroups())


class Tuner:
    """Tune's side of a searcher: requests trials and ends them, without processes."""

    def __init__(self, plan: Plan, slots: int, dice: random.Random) -> None:
        self.tracker = ProgressTracker(plan, (), (), ())
        self.trials = bundle(plan.ladders, lambda ladder: 1 + dice.random() * 300, slots=4)
        self.failures: list[Failure] = []
        self.groups = FakeGroups()
        self.searcher = TrialSearcher(
            self.tracker,
            self.trials,
            self.failures.extend,
            lambda states: True,
            TrainerSlots([TrainerSlot(())] * slots, self.groups),
        )
        self.running: dict[str, dict[str, Any]] = {}
        self.started: list[str] = []
        self._by_name = {trial.name: trial for trial in self.trials}
        self._slots = slots

    def fill(self) -> object:
        """Request trials while slots are free; return the searcher's last suggestion."""
        suggested: object = None
        while len(self.running) < self._slots:
            name = f"t{len(self.started)}"
            suggested = self.searcher.suggest(name)
            if not isinstance(suggested, dict):
                return suggested
            first = next((t.name for t in self.trials if self._could_start(t)), None)
            assert suggested["trial"] == first, "the first trial in order that may start"
            self.running[name] = suggested
            self.started.append(suggested["trial"])
        return suggested

    def _could_start(self, trial: Trial) -> bool:
        open_ladders = [lad for lad in trial.ladders if not self.tracker.finished(lad)]
        free = trial.name not in self.started and bool(open_ladders)
        return free and all(self.tracker.settled(need) for need in trial.needs)

    def answer_lessons(self) -> None:
        """Every recorded teacher answers the queries of its lessons."""
        for request in self.tracker.plan.requests():
            if request.kind == QUERIES and request.state_id in self.tracker.done:
                self.tracker.request_closed(request)

    def end(self, name: str, lost: bool) -> None:
        """End a trial: all its states are recorded, or with `lost` its process is gone."""
        trial = self._by_name[self.running.pop(name)["trial"]]
        if not lost:
            states = [rung.state_id for lad in trial.ladders for rung in lad.rungs]
            report = {"recorded": states, "seconds": {"train": 1.0}, "ended": True}
            self.searcher.on_trial_result(name, report)
        self.searcher.on_trial_complete(name, error=lost)


@given(specs(), st.integers(1, 4), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_trial_starts_once_in_order_when_its_parents_are_recorded(
    spec: Spec, slots: int, seed: int
) -> None:
    dice = random.Random(seed)
    plan = plan_of(spec)
    tune = Tuner(plan, slots, dice)
    starts = list(plan.starts)
    dice.shuffle(starts)
    while True:
        suggested = tune.fill()
        if suggested == TrialSearcher.FINISHED:
            break
        if starts and (not tune.running or dice.random() < 0.5):
            tune.tracker.state_done(starts.pop())
        elif not tune.running or dice.random() < 0.2:
            tune.answer_lessons()
        else:
            tune.end(dice.choice(list(tune.running)), lost=False)
    assert sorted(tune.started) == sorted(trial.name for trial in tune.trials)
    assert tune.tracker.done == set(plan.states) and not tune.failures
    assert len(tune.groups.started) <= slots, "a group trains many trials"
    assert tune.groups.living == set(), "none is kept when no trial will follow"


@given(specs(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_failed_start_state_fails_its_descendants_and_nothing_waits_forever(
    spec: Spec, seed: int
) -> None:
    dice = random.Random(seed)
    plan = plan_of(spec)
    tune = Tuner(plan, 2, dice)
    for start in plan.starts:
        if dice.random() < 0.5:
            tune.tracker.state_failed(start, "out of reach")
        else:
            tune.tracker.state_done(start)
    while tune.fill() != TrialSearcher.FINISHED:
        if tune.running:
            tune.end(next(iter(tune.running)), lost=False)
        else:
            tune.answer_lessons()
    assert all(tune.tracker.settled(state) for state in plan.states)


@given(specs(), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_a_trial_whose_process_died_is_tried_again_before_all_others(spec: Spec, seed: int) -> None:
    plan = plan_of(spec)
    tune = Tuner(plan, 1, random.Random(seed))
    for start in plan.starts:
        tune.tracker.state_done(start)
    tune.fill()
    first = tune.started[0]
    for attempt in range(1, ATTEMPTS):
        tune.end(f"t{attempt - 1}", lost=True)
        again = tune.searcher.suggest(f"t{attempt}")
        assert isinstance(again, dict) and again["trial"] == first
        tune.running[f"t{attempt}"] = again
        tune.started.append(first)
    tune.end(f"t{ATTEMPTS - 1}", lost=True)
    (trial,) = (trial for trial in tune.trials if trial.name == first)
    own = {rung.state_id for lad in trial.ladders for rung in lad.rungs}
    assert own <= {failure.state_id for failure in tune.failures}
    assert all("crashed" in tune.tracker.failed[state] for state in own)


def test_a_stopped_searcher_suggests_nothing() -> None:
    plan = plan_of(spec_of())
    tune = Tuner(plan, 1, random.Random(0))
    for start in plan.starts:
        tune.tracker.state_done(start)
    tune.searcher.stopped.set()
    assert tune.fill() == TrialSearcher.FINISHED and not tune.started


def test_a_lesson_waits_for_its_teachers_answers_and_fails_with_them() -> None:
    plan = plan_of(
        spec_of(
            positive=[8, 16, 24], negative=[], lessons={"pairs": [[1, 2], [2, 3]], "queries": 8}
        )
    )
    tune = Tuner(plan, 1, random.Random(0))
    requests = [request for request in plan.requests() if request.kind == QUERIES]
    learners = {rung.state_id for lad in plan.ladders if lad.stage.answers for rung in lad.rungs}
    assert requests and learners
    for start in plan.starts:
        tune.tracker.state_done(start)
    while tune.fill() is not None or tune.running:
        tune.end(next(iter(tune.running)), lost=False)
    assert tune.tracker.done == set(plan.states) - learners, "none trains before the answers"
    lost, *answered = requests
    for request in answered:
        tune.tracker.request_answered(request)
        tune.tracker.request_closed(request)
    tune.tracker.request_failed(lost, "the engine died")
    while tune.fill() != TrialSearcher.FINISHED:
        tune.end(next(iter(tune.running)), lost=False)
    assert all(tune.tracker.settled(state) for state in plan.states)
    assert tune.tracker.failed and set(tune.tracker.failed) < learners


def test_a_trial_whose_states_another_driver_computes_is_postponed() -> None:
    plan = plan_of(spec_of(seeds=[0, 1]))
    tune = Tuner(plan, 4, random.Random(0))
    elsewhere = {rung.state_id for lad in plan.ladders for rung in lad.rungs}
    tune.searcher = TrialSearcher(
        tune.tracker,
        tune.trials,
        tune.failures.extend,
        lambda states: not elsewhere & set(states),
        unplaced(4),
    )
    for start in plan.starts:
        tune.tracker.state_done(start)
    assert tune.searcher.suggest("t0") is None, "postponed, not finished"
    tune.searcher.requeue_postponed()
    assert tune.searcher.suggest("t0") is None
    elsewhere.clear()
    assert tune.searcher.suggest("t0") is None, "not before it is requeued"
    tune.searcher.requeue_postponed()
    while tune.fill() != TrialSearcher.FINISHED:
        tune.end(next(iter(tune.running)), lost=False)
    assert tune.tracker.done == set(plan.states)


def hub_grid() -> Plan:
    model = {"name": "m", "hub": "some/m-1b", "revision": "0" * 40}
    return plan_of(spec_of(models=[model], positive=[16, 32]))


def test_a_preempted_attempt_does_not_count() -> None:
    plan = hub_grid()
    tune = Tuner(plan, 1, random.Random(0))
    for start in plan.starts:
        tune.tracker.state_done(start)
    tune.fill()
    first = tune.started[0]
    for number in range(5 * ATTEMPTS):
        tune.searcher.on_trial_result(f"t{number}", {"preempted": True, "seconds": {"train": 0.1}})
        tune.searcher.on_trial_complete(f"t{number}")
        again = tune.searcher.suggest(f"t{number + 1}")
        assert isinstance(again, dict) and again["trial"] == first
    assert not tune.failures


def test_a_silent_trial_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = hub_grid()
    tune = Tuner(plan, 1, random.Random(0))
    for start in plan.starts:
        tune.tracker.state_done(start)
    tune.fill()
    tune.searcher.on_trial_result("t0", {"node": "n1"})
    assert tune.searcher.silent_trials() == []
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + SILENT_AFTER + 5)
    (line,) = tune.searcher.silent_trials()
    assert tune.started[0] in line and "reported no step for 18" in line
    assert tune.searcher.silent_trials() == []
    tune.searcher.on_trial_result("t0", {"seconds": {"train": 1.0}})
    monkeypatch.setattr(time, "monotonic", lambda: now + 2 * SILENT_AFTER + 20)
    assert len(tune.searcher.silent_trials()) == 1
