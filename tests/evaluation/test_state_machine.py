"""The evaluation's state machine: invariants under any order of events, and individual rules.

`Simulation` stands in for the evaluator, the engines, the scorers, the trainers and the cluster. It
executes the machine's instructions in random order and with random outcomes, and checks every step.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sweeps import COMMIT, plan_of, spec_of

from elastic_ray.evaluation.instructions import (
    CloseRequest,
    FailRequest,
    Instruction,
    PlaceEngine,
    RunRequest,
    ScoreAnswers,
    StartEngine,
    StopEngine,
)
from elastic_ray.evaluation.state_machine import (
    LANES,
    MAX_FAILED_STARTS,
    EvaluationStateMachine,
    Phase,
)
from elastic_ray.placement import EngineSlot
from elastic_ray.placement.bin_packing import Allocation
from elastic_ray.plan import ANSWERS, EvaluationRequest, Plan
from elastic_ray.progress.tracker import ProgressTracker

HUB = [
    {"name": name, "hub": f"some/{name}", "revision": COMMIT} for name in ("a-1b", "b-2b", "c-3b")
]
UNSCORED = {"name": "reviews", "scorer": "none"}
PLANS = {
    "one group": plan_of(spec_of(probes={"code_length": {}})),
    "three groups": plan_of(spec_of(models=HUB, negative=[8], seeds=[0, 1])),
    "unscored": plan_of(spec_of(models=HUB, task=UNSCORED, probes={"code_length": {}})),
    "lessons": plan_of(
        spec_of(
            task=UNSCORED,
            models=HUB[:2],
            positive=[8, 16, 24],
            negative=[],
            lessons={"pairs": [[1, 2], [1, 3]], "queries": 8},
        )
    ),
}
HOLDING = (Phase.STARTING, Phase.SERVING, Phase.STOPPING)


def slot(index: int, groups: Sequence[str], replicas: int) -> EngineSlot:
    """Return a slot on its own node, so that the node of a replica identifies the slot."""
    return EngineSlot(tuple(groups), (Allocation(f"node-{index}", 1.0),) * replicas)


class Simulation:
    """A random run of one plan; any work fails with probability `chance`."""

    def __init__(self, plan: Plan, rng: random.Random, chance: float) -> None:
        self.plan, self.rng, self.chance = plan, rng, chance
        self.probes = plan.requests()
        requests = list(self.probes)
        answered, closed = self._recorded(requests)
        open_requests = [request for request in requests if request not in closed]
        self.names = list(dict.fromkeys(map(plan.engine_of, open_requests)))
        self.tracker = ProgressTracker(plan, {r.state_id for r in answered}, answered, closed)
        self.events: list[tuple[str, str]] = []
        self.tracker.listen(lambda event, state: self.events.append((event, state)))
        self.open = set(open_requests)
        self.slots = self._random_slots()
        self.machine = EvaluationStateMachine(plan, self.slots, answered, closed)
        self.work: list[Instruction] = []
        """Instructions that are running: they have no outcome yet."""
        self.up: set[str] = set()
        self.ran: Counter[EvaluationRequest] = Counter()
        self.ended: Counter[EvaluationRequest] = Counter()
        self.failed_starts: Counter[str] = Counter()
        self.replicas: dict[str, int] = {}
        """Group -> its maximum number of replicas since it got its slot."""
        self.arrivals: dict[str, int] = {}
        """Waiting group -> the number of the check at which it was first seen waiting."""
        self.checks = 0

    def _recorded(self, requests: list[EvaluationRequest]) -> tuple[set[Any], set[Any]]:
        answers = [request for request in requests if request.kind == ANSWERS]
        share = self.rng.choice([0.0, 0.3, 0.8])
        answered = {each for each in answers if self.rng.random() < share}
        return answered, {each for each in answered if self.rng.random() < 0.3}

    def _random_slots(self) -> list[EngineSlot]:
        """Return up to three slots; the first one admits every group."""
        slots = [slot(0, self.names, self.rng.randint(1, 3))]
        for index in range(1, self.rng.randint(1, 3) if self.names else 1):
            some = self.rng.sample(self.names, self.rng.randint(1, len(self.names)))
            slots.append(slot(index, some, self.rng.randint(1, 3)))
        return slots

    def run(self) -> None:
        done = [state for state in self.plan.states if state in self.tracker.done]
        self.execute(self.machine.begin(done, {}))
        while not self.machine.finished:
            assert self.step(), f"stuck: {[(n, self.machine.phase(n)) for n in self.names]}"
        left = [each for each in self.work if not isinstance(each, PlaceEngine)]
        assert not left and not self.up and not self.machine.ready
        tracker = self.tracker
        for request in self.open:
            state_failed = request.state_id in tracker.failed
            assert self.ended[request] + state_failed == 1, request
            assert (request in tracker.closed) + (request in tracker.lost) + state_failed == 1
        assert self.execute(self.machine.tick()) == 0, "finished: no more instructions"

    def step(self) -> bool:
        """Make one random event happen; return False if none is possible."""
        states = [state for state in self.plan.states if self._can_finish(state)]
        choices = [self._deliver_event] * bool(self.events) + [self._finish_work] * 2 * bool(
            self.work
        )
        choices += [lambda: self._finish_state(self.rng.choice(states))] * bool(states)
        if not choices:  # remaining requests wait for a node or for an idle engine's slot
            self._change_layout(smallest=1)
            return self._tick() > 0 or bool(self.work)
        choices += [self._tick] * 2 + [lambda: self._change_layout(smallest=0)]
        self.rng.choice(choices)()
        return True

    def _can_finish(self, state: str) -> bool:
        made_from, tracker = self.plan.states[state].made_from, self.tracker
        ended = state in tracker.done or state in tracker.failed
        return not ended and all(each in tracker.done for each in made_from)

    def _finish_state(self, state: str) -> None:
        if self._fails():
            self.tracker.state_failed(state, "diverged")
        else:
            self.tracker.state_done(state)

    def _deliver_event(self) -> None:
        event, state = self.events.pop(0)
        if event == "done":
            self.execute(self.machine.state_done(state))
        elif event == "failed":
            self.execute(self.machine.state_failed(state, self.tracker.failed[state]))

    def _fails(self) -> bool:
        return self.rng.random() < self.chance

    def _tick(self) -> int:
        count = self.execute(self.machine.tick())
        if any(self.machine.phase(name) is Phase.WAITING for name in self.names):
            busy = {each.group for each in self.work if not isinstance(each, ScoreAnswers)}
            assert self.up <= busy, "an idle engine yields its slot at this tick"
        return count

    def _change_layout(self, smallest: int) -> None:
        self.slots = [
            slot(index, each.groups, self.rng.randint(smallest, 3))
            for index, each in enumerate(self.slots)
        ]
        self.execute(self.machine.layout_changed(self.slots))

    def _finish_work(self) -> None:
        """Finish a random running instruction and report its outcome."""
        instruction, machine = self.work.pop(self.rng.randrange(len(self.work))), self.machine
        match instruction:
            case StartEngine(group, _, ahead):
                if ahead and self._fails():
                    self.execute(machine.engine_skipped(group))
                elif self._fails():
                    self.failed_starts[group] += 1
                    self.execute(machine.engine_failed(group, "out of memory"))
                else:
                    self.up.add(group)
                    self.execute(machine.engine_started(group))
            case StopEngine(group):
                self.execute(machine.engine_stopped(group))
            case PlaceEngine(group):
                if machine.phase(group) in HOLDING:
                    self.execute(machine.engine_placed(group))
            case RunRequest(_, request):
                if self._fails():
                    self.execute(machine.request_failed(request, "the engine died"))
                elif request.kind == ANSWERS:
                    self.tracker.request_answered(request)
                    self.execute(machine.request_answered(request))
                else:
                    self._close(request)
                    self.execute(machine.request_closed(request))
            case ScoreAnswers(request):
                if self._fails():
                    self.execute(machine.scoring_failed(request, "no scorer"))
                else:
                    self._close(request)
                    self.execute(machine.scoring_done(request))

    def _close(self, request: EvaluationRequest) -> None:
        self.ended[request] += 1
        self.tracker.request_closed(request)

    def execute(self, instructions: list[Instruction]) -> int:
        """Start the instructions, checking that each is allowed; return their number."""
        for instruction in instructions:
            match instruction:
                case CloseRequest(request):
                    assert not self.probes[request].scorer
                    self._close(request)
                case FailRequest(request, error):
                    self.ended[request] += 1
                    self.tracker.request_failed(request, error)
                case _:
                    self._check(instruction)
                    self.work.append(instruction)
        self._check_slots()
        return len(instructions)

    def _check(self, instruction: Instruction) -> None:
        match instruction:
            case StartEngine(group, state, _):
                assert group not in self.up
                assert self.failed_starts[group] < MAX_FAILED_STARTS
                assert state in self.tracker.done
            case StopEngine(group):
                assert group in self.up
                assert not self._running(group)
                self.up.discard(group)
            case RunRequest(group, request):
                assert request in self.open and group == self.plan.engine_of(request)
                assert request.state_id in self.tracker.done
                assert group in self.up or request in self.tracker.answered
                if request.reference:
                    answers = EvaluationRequest(request.reference, request.task, ANSWERS)
                    assert answers in self.tracker.answered
                self.ran[request] += 1
                assert self.ran[request] == 1, "a request runs once"
            case ScoreAnswers(request):
                assert request in self.tracker.answered and request not in self.tracker.closed

    def _running(self, group: str) -> int:
        return sum(isinstance(each, RunRequest) and each.group == group for each in self.work)

    def _check_slots(self) -> None:
        """Check that one admitted group holds each slot, in arrival order, within its `LANES`."""
        holders: dict[str, str] = {}
        waiting = [name for name in self.names if self.machine.phase(name) is Phase.WAITING]
        for name in self.names:
            if self.machine.phase(name) not in HOLDING:
                self.replicas.pop(name, None)
                assert not self._running(name), "a group without a slot runs nothing"
                continue
            places = self.machine.places(name)
            self.replicas[name] = max(self.replicas.get(name, 0), sum(places.values()))
            assert self._running(name) <= LANES * self.replicas[name]
            for node in places:
                assert holders.setdefault(node, name) == name, "one group per slot"
                assert name in self._slot_on(node).groups
        for node, name in holders.items():
            if name in self.arrivals:  # the group has just got the slot
                admitted = [each for each in waiting if each in self._slot_on(node).groups]
                earlier = [self.arrivals.get(each, self.checks) for each in admitted]
                assert all(self.arrivals[name] <= number for number in earlier)
        self.checks += 1
        self.arrivals = {name: self.arrivals.get(name, self.checks) for name in waiting}
        holding = sum(self.machine.phase(name) in HOLDING for name in self.names)
        for each in self.slots:
            taken = not each.replicas or each.replicas[0].node in holders
            assert taken or not set(waiting) & set(each.groups), (
                "no slot is free while an admitted group waits"
            )
        assert holding <= len(self.slots)

    def _slot_on(self, node: str) -> EngineSlot:
        return next(each for each in self.slots if any(r.node == node for r in each.replicas))


@settings(max_examples=150, deadline=None, report_multiple_bugs=False)
@given(
    st.sampled_from(sorted(PLANS)),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.1, 0.4, 1.0]),
)
def test_every_request_ends_exactly_once(plan: str, rng: random.Random, chance: float) -> None:
    Simulation(PLANS[plan], rng, chance).run()


def machine_of(plan: Plan, replicas: int = 1, **recorded: Any) -> EvaluationStateMachine:
    """Return a machine with one slot that admits every group."""
    return EvaluationStateMachine(plan, [slot(0, list(plan.groups), replicas)], **recorded)


def by_group(plan: Plan) -> dict[str, list[EvaluationRequest]]:
    requests: dict[str, list[EvaluationRequest]] = defaultdict(list)
    for request in plan.requests():
        requests[plan.engine_of(request)].append(request)
    return requests


def test_an_engine_starts_before_the_first_request() -> None:
    plan = PLANS["one group"]
    [(group, _)] = by_group(plan).items()
    start = next(iter(plan.starts))
    machine = machine_of(plan)
    assert machine.begin([], {}) == []
    assert machine.state_done(start) == [StartEngine(group, start, ahead=True)]
    assert machine.engine_started(group) == [], "the engine waits for requests"
    assert machine.tick() == []


def test_a_skipped_early_start_does_not_count_as_a_failure() -> None:
    plan = PLANS["one group"]
    [(group, requests)] = by_group(plan).items()
    machine = machine_of(plan)
    machine.begin(plan.starts, {})
    assert machine.engine_skipped(group) == []
    state = requests[0].state_id
    assert machine.state_done(state) == [StartEngine(group, state, ahead=False)]


def test_recorded_answers_are_scored_without_an_engine() -> None:
    plan = plan_of(spec_of())
    requests = list(plan.requests())
    machine = machine_of(plan, answered=requests)
    run = machine.begin(plan.states, {})
    assert run == [RunRequest(plan.engine_of(requests[0]), each) for each in requests[:LANES]]
    for index, request in enumerate(requests):
        assert ScoreAnswers(request) in machine.request_answered(request)
        assert machine.ready == max(0, len(requests) - LANES - index - 1)
        machine.scoring_done(request)
    assert machine.finished


def test_a_group_fails_after_two_failed_starts() -> None:
    plan = PLANS["one group"]
    [(group, requests)] = by_group(plan).items()
    states = list(dict.fromkeys(request.state_id for request in requests))
    machine = machine_of(plan)
    machine.begin([], {})
    for state in states[:MAX_FAILED_STARTS]:
        assert machine.state_done(state) == [StartEngine(group, state, ahead=False)]
        failed = machine.engine_failed(group, "out of memory")
        own = [request for request in requests if request.state_id == state]
        assert failed == [FailRequest(request, "out of memory") for request in own]
    for state in states[MAX_FAILED_STARTS:]:
        lost = machine.state_done(state)
        assert lost and all(isinstance(each, FailRequest) for each in lost)
        assert all("not available: out of memory" in each.error for each in lost)  # type: ignore[union-attr]
    assert machine.finished


def test_an_idle_engine_yields_its_slot_at_a_tick() -> None:
    plan = PLANS["three groups"]
    (first, own), (second, others), *_ = by_group(plan).items()
    machine = machine_of(plan)
    machine.begin([own[0].state_id], {})
    machine.engine_started(first)
    machine.request_answered(own[0])
    assert machine.state_done(others[0].state_id) == []
    assert machine.phase(second) is Phase.WAITING and machine.phase(first) is Phase.SERVING
    assert machine.tick() == [StopEngine(first)]
    assert machine.engine_stopped(first) == [StartEngine(second, others[0].state_id, ahead=False)]


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_added_replicas_get_more_concurrent_requests(replicas: int) -> None:
    plan = plan_of(spec_of(negative=[8, 16, 24, 32, 40, 48, 56]))
    [(group, _)] = by_group(plan).items()
    machine = machine_of(plan)
    machine.begin(plan.states, {})
    assert len(machine.engine_started(group)) == LANES
    slots = [slot(0, [group], replicas)]
    assert machine.layout_changed(slots) == [PlaceEngine(group, {"node-0": replicas})]
    assert len(machine.engine_placed(group)) == LANES * (replicas - 1)


def test_no_group_waits_for_a_slot_before_its_first_request() -> None:
    sizes = {"small": 64, "large": 128}
    models = [
        {"name": name, "init": {"hidden_size": size, "layers": 1}, "pretrain": [64]}
        for name, size in sizes.items()
    ]
    plan = plan_of(spec_of(models=models))
    first, second = by_group(plan)
    starts = {plan.states[state].engine: state for state in plan.starts}
    machine = machine_of(plan)
    assert machine.begin([starts[first], starts[second]], {}) == [
        StartEngine(first, starts[first], ahead=True)
    ]
    assert machine.phase(second) is Phase.IDLE
