"""The searcher: trials are released in order, when what they need is settled, each once."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
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


def anywhere(slots: int) -> TrainerSlots:
    """So many trainer slots, on no node in particular."""
    return TrainerSlots([TrainerSlot(())] * slots)


class Tuner:
    """Tune's side of a searcher: asks for trials, ends them; no process of its own."""

    def __init__(self, plan: Plan, slots: int, dice: random.Random) -> None:
        self.tracker = ProgressTracker(plan, (), (), ())
        self.trials = bundle(plan.ladders, lambda ladder: 1 + dice.random() * 300, slots=4)
        self.failures: list[Failure] = []
        self.release = TrialSearcher(
            self.tracker, self.trials, self.failures.extend, lambda states: True, anywhere(slots)
        )
        self.running: dict[str, dict[str, Any]] = {}
        self.released: list[str] = []
        self._by_name = {trial.name: trial for trial in self.trials}
        self._slots = slots

    def fill(self) -> object:
        """Take trials until there is none or no slot; what the searcher said last."""
        suggested: object = None
        while len(self.running) < self._slots:
            name = f"t{len(self.released)}"
            suggested = self.release.suggest(name)
            if not isinstance(suggested, dict):
                return suggested
            first = next((t.name for t in self.trials if self._could_start(t)), None)
            assert suggested["trial"] == first, "the first in order that may start"
            self.running[name] = suggested
            self.released.append(suggested["trial"])
        return suggested

    def _could_start(self, trial: Trial) -> bool:
        open_ladders = [lad for lad in trial.ladders if not self.tracker.finished(lad)]
        free = trial.name not in self.released and bool(open_ladders)
        return free and all(self.tracker.settled(need) for need in trial.needs)

    def teach(self) -> None:
        """Whoever is there answers what others are to learn."""
        for asked in self.tracker.plan.requests():
            if asked.kind == QUERIES and asked.state_id in self.tracker.done:
                self.tracker.request_closed(asked)

    def end(self, name: str, lost: bool) -> None:
        """A trial ends: all its states are recorded, or its process is gone."""
        trial = self._by_name[self.running.pop(name)["trial"]]
        if not lost:
            states = [rung.state_id for lad in trial.ladders for rung in lad.rungs]
            self.release.on_trial_result(name, {"recorded": states, "train_seconds": 1.0})
        self.release.on_trial_complete(name, error=lost)


@given(specs(), st.integers(1, 4), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_trial_is_released_once_in_order_when_its_parents_are_there(
    spec: Spec, slots: int, seed: int
) -> None:
    dice = random.Random(seed)
    plan = plan_of(spec)
    tune = Tuner(plan, slots, dice)
    starts = list(plan.starts)
    dice.shuffle(starts)
    while True:
        said = tune.fill()
        if said == TrialSearcher.FINISHED:
            break
        if starts and (not tune.running or dice.random() < 0.5):
            tune.tracker.state_done(starts.pop())
        elif not tune.running or dice.random() < 0.2:
            tune.teach()
        else:
            tune.end(dice.choice(list(tune.running)), lost=False)
    assert sorted(tune.released) == sorted(trial.name for trial in tune.trials)
    assert tune.tracker.done == set(plan.states) and not tune.failures


@given(specs(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_start_that_fails_ends_what_needs_it_and_nothing_waits_for_ever(
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
            tune.teach()
    assert all(tune.tracker.settled(state) for state in plan.states)


@given(specs(), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_a_process_that_dies_is_tried_again_before_all_others(spec: Spec, seed: int) -> None:
    plan = plan_of(spec)
    tune = Tuner(plan, 1, random.Random(seed))
    for start in plan.starts:
        tune.tracker.state_done(start)
    tune.fill()
    first = tune.released[0]
    for attempt in range(1, ATTEMPTS):
        tune.end(f"t{attempt - 1}", lost=True)
        again = tune.release.suggest(f"t{attempt}")
        assert isinstance(again, dict) and again["trial"] == first
        tune.running[f"t{attempt}"] = again
        tune.released.append(first)
    tune.end(f"t{ATTEMPTS - 1}", lost=True)
    (trial,) = (trial for trial in tune.trials if trial.name == first)
    own = {rung.state_id for lad in trial.ladders for rung in lad.rungs}
    assert own <= {failure.state_id for failure in tune.failures}
    assert all("crashed" in tune.tracker.failed[state] for state in own)


def test_once_stopped_nothing_is_released() -> None:
    plan = plan_of(spec_of())
    tune = Tuner(plan, 1, random.Random(0))
    for start in plan.starts:
        tune.tracker.state_done(start)
    tune.release.stopped.set()
    assert tune.fill() == TrialSearcher.FINISHED and not tune.released


def test_a_pupil_waits_for_its_teachers_answers_and_falls_with_them() -> None:
    plan = plan_of(
        spec_of(
            positive=[8, 16, 24], negative=[], lessons={"pairs": [[1, 2], [2, 3]], "queries": 8}
        )
    )
    tune = Tuner(plan, 1, random.Random(0))
    asked = [question for question in plan.requests() if question.kind == QUERIES]
    pupils = {rung.state_id for lad in plan.ladders if lad.stage.answers for rung in lad.rungs}
    assert asked and pupils
    for start in plan.starts:
        tune.tracker.state_done(start)
    while tune.fill() is not None or tune.running:
        tune.end(next(iter(tune.running)), lost=False)
    assert tune.tracker.done == set(plan.states) - pupils, "without the answers no pupil trains"
    lost, *answered = asked
    for question in answered:
        tune.tracker.request_answered(question)
        tune.tracker.request_closed(question)
    tune.tracker.request_failed(lost, "the engine died")
    while tune.fill() != TrialSearcher.FINISHED:
        tune.end(next(iter(tune.running)), lost=False)
    assert all(tune.tracker.settled(state) for state in plan.states)
    assert tune.tracker.failed and set(tune.tracker.failed) < pupils


def test_what_another_driver_computes_is_put_aside_and_asked_for_again() -> None:
    plan = plan_of(spec_of(seeds=[0, 1]))
    tune = Tuner(plan, 4, random.Random(0))
    elsewhere = {rung.state_id for lad in plan.ladders for rung in lad.rungs}
    tune.release = TrialSearcher(
        tune.tracker,
        tune.trials,
        tune.failures.extend,
        lambda states: not elsewhere & set(states),
        anywhere(4),
    )
    for start in plan.starts:
        tune.tracker.state_done(start)
    assert tune.release.suggest("t0") is None, "it waits, and is not finished"
    tune.release.requeue_postponed()
    assert tune.release.suggest("t0") is None
    elsewhere.clear()
    assert tune.release.suggest("t0") is None, "not before it is told to look again"
    tune.release.requeue_postponed()
    while tune.fill() != TrialSearcher.FINISHED:
        tune.end(next(iter(tune.running)), lost=False)
    assert tune.tracker.done == set(plan.states)


def hub_grid() -> Plan:
    model = {"name": "m", "hub": "some/m-1b", "revision": "0" * 40}
    return plan_of(spec_of(models=[model], positive=[16, 32]))


def test_a_trial_that_left_its_node_is_not_counted_as_a_try() -> None:
    plan = hub_grid()
    tune = Tuner(plan, 1, random.Random(0))
    for start in plan.starts:
        tune.tracker.state_done(start)
    tune.fill()
    first = tune.released[0]
    for number in range(5 * ATTEMPTS):
        tune.release.on_trial_result(f"t{number}", {"preempted": True, "train_seconds": 0.1})
        tune.release.on_trial_complete(f"t{number}")
        again = tune.release.suggest(f"t{number + 1}")
        assert isinstance(again, dict) and again["trial"] == first
    assert not tune.failures


def test_a_trial_that_is_silent_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = hub_grid()
    tune = Tuner(plan, 1, random.Random(0))
    for start in plan.starts:
        tune.tracker.state_done(start)
    tune.fill()
    tune.release.on_trial_result("t0", {"node": "n1"})
    assert tune.release.silent_trials() == []
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + SILENT_AFTER + 5)
    (line,) = tune.release.silent_trials()
    assert tune.released[0] in line and "reported no step for 18" in line
    assert tune.release.silent_trials() == []
    tune.release.on_trial_result("t0", {"train_seconds": 1.0})
    monkeypatch.setattr(time, "monotonic", lambda: now + 2 * SILENT_AFTER + 20)
    assert len(tune.release.silent_trials()) == 1
