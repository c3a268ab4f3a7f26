"""Decides when each evaluation request runs, on which engines, and in which engine slot.

A pure, synchronous state machine: each event is a method that returns the instructions which follow
from it (`instructions`). It starts no engine and reads no record; `evaluator` does both. The rules:

- `request_queue` says which requests are ready.
- An engine group asks for a slot when a request is ready, and once ahead of that: as soon as any
  of its states is done and a slot is free, because engines take a minute to start. Groups get slots
  in order of arrival.
- A group with a slot has `LANES` lanes per replica; a lane runs one request at a time. No engine
  starts where all that is ready is answered already and only its scores are missing.
- A lane ends when nothing is ready for it and the group has no work left, another group waits for
  a slot, or the slot has no replicas now. When the last lane ends, the engines stop and the slot is
  free.
- A failed start fails the requests that are ready. After `MAX_FAILED_STARTS` of them all later
  requests of the group fail too, because each attempt costs as much as a start.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..placement import EngineSlot
from ..plan import ANSWERS, CODE_LENGTH, DISTANCES, QUERIES, EvaluationRequest, Plan
from .engine_slots import EngineSlots
from .instructions import (
    CloseRequest,
    Instruction,
    PlaceEngine,
    RunRequest,
    ScoreAnswers,
    StartEngine,
    StopEngine,
)
from .request_queue import GroupRequests, RequestQueue

MAX_FAILED_STARTS = 2
"""Failed starts of a group's engines after which the group is given up."""
LANES = 2
"""Concurrent requests per replica: one runs while the next is queued."""

_ACTIVITY = {
    ANSWERS: "generation",
    QUERIES: "generation",
    CODE_LENGTH: "code lengths",
    DISTANCES: "distances",
}
"""Kind of request -> what failed, in an error message."""


class Phase(enum.Enum):
    """What an engine group does; from STARTING to STOPPING it holds a slot."""

    IDLE = "idle"
    WAITING = "waiting for a slot"
    STARTING = "starting engines"
    SERVING = "serving requests"
    STOPPING = "stopping engines"


@dataclass
class _Group:
    """An engine group: its requests, and what it does with its slot."""

    requests: GroupRequests
    may_start_ahead: bool
    phase: Phase = Phase.IDLE
    engine: bool = False
    """Whether engines run while it is SERVING; without, it only hands on recorded answers."""
    lanes: int = 0
    failed_starts: int = 0
    start_state: str | None = None
    """A state that is done: enough to start an engine on."""


class EvaluationStateMachine:
    """The evaluation of one plan; `answered` and `closed` are the requests already recorded."""

    def __init__(
        self,
        plan: Plan,
        slots: Sequence[EngineSlot],
        answered: Collection[EvaluationRequest] = (),
        closed: Collection[EvaluationRequest] = (),
    ) -> None:
        self._plan = plan
        self._slots = EngineSlots(slots)
        self._queue = RequestQueue(plan, answered, closed)
        self._groups = {
            name: _Group(requests, requests.needs_engine and not plan.groups[name].pairs)
            for name, requests in self._queue.groups.items()
        }
        self._scored = {request for request, probe in plan.requests().items() if probe.scorer}
        self._scoring: set[EvaluationRequest] = set()
        self._instructions: list[Instruction] = []

    @property
    def finished(self) -> bool:
        """Whether every request has ended and every slot is free."""
        return not self._scoring and all(
            group.phase is Phase.IDLE and not group.requests.open for group in self._groups.values()
        )

    @property
    def ready(self) -> int:
        """The number of requests that could run, but wait for an engine."""
        return sum(len(group.requests.ready) for group in self._groups.values())

    @property
    def idle(self) -> bool:
        """Whether nothing is ready, runs or is being scored; engines may run without work."""
        busy = (each.requests.ready or each.requests.running for each in self._groups.values())
        return not self._scoring and not any(busy)

    @property
    def engines_stopped(self) -> bool:
        """Whether no group holds a slot."""
        return not self._slots.holders

    def phase(self, group: str) -> Phase:
        """Return what an engine group does."""
        return self._groups[group].phase

    def places(self, group: str) -> dict[str, int]:
        """Return the replicas of the slot that the group holds: node id -> number of replicas."""
        return self._slots.places(group)

    def begin(self, done: Iterable[str], failed: Mapping[str, str]) -> list[Instruction]:
        """Take over the states that are done, in order, and those that failed, with the error."""
        for state in done:
            self._take_done(state)
        for state, error in failed.items():
            self._queue.state_failed(state, error)
        return self._advance(self._groups)

    def state_done(self, state: str) -> list[Instruction]:
        """A state is recorded: its requests may run."""
        self._take_done(state)
        return self._advance([self._plan.states[state].engine])

    def state_failed(self, state: str, error: str) -> list[Instruction]:
        """A state failed: its requests end with it, and those that compare with it fail."""
        self._queue.state_failed(state, error)
        return self._advance()

    def engine_started(self, group: str) -> list[Instruction]:
        """The group's engines are up."""
        self._serve(group, engine=True)
        return self._advance([group])

    def engine_skipped(self, group: str) -> list[Instruction]:
        """A start ahead is not possible; the group tries again when a request is ready."""
        self._serve(group, engine=False)
        return self._advance([group])

    def engine_failed(self, group: str, error: str) -> list[Instruction]:
        """The group's engines did not start."""
        self._groups[group].failed_starts += 1
        self._queue.fail_ready(group, error)
        if self._groups[group].failed_starts >= MAX_FAILED_STARTS:
            self._queue.give_up(group, f"the engine is not available: {error}")
        self._release(group)
        return self._advance()

    def engine_stopped(self, group: str) -> list[Instruction]:
        """The group's engines have ended: its slot is free."""
        self._release(group)
        return self._advance()

    def layout_changed(self, slots: Sequence[EngineSlot]) -> list[Instruction]:
        """Nodes joined or left: use these slots; those that are held keep their index."""
        self._slots.change(slots)
        # A group whose slot has lost all replicas, and has nothing to run, stops here.
        advanced = self._advance(self._slots.holders)
        places = [
            PlaceEngine(name, self._slots.places(name))
            for name in self._slots.holders
            if self._groups[name].phase is not Phase.STOPPING
        ]
        return [*advanced, *places]

    def engine_placed(self, group: str) -> list[Instruction]:
        """The group's replicas are where its slot has them now: added ones get lanes.

        Where replicas are gone, the lanes stay: their requests wait for the remaining ones.
        """
        status = self._groups[group]
        if status.phase is Phase.SERVING and status.engine:
            status.lanes = max(status.lanes, LANES * self._slots.replicas(group))
        return self._advance([group])

    def request_answered(self, request: EvaluationRequest) -> list[Instruction]:
        """A request's answers are recorded: have them scored, and run what waited for them."""
        self._queue.end(request)
        self._queue.add_answered(request)
        if request in self._scored:
            self._scoring.add(request)
            self._instructions.append(ScoreAnswers(request))
        else:
            self._instructions.append(CloseRequest(request))
        return self._advance()

    def request_closed(self, request: EvaluationRequest) -> list[Instruction]:
        """All results of a request are recorded."""
        self._queue.end(request)
        return self._advance()

    def request_failed(self, request: EvaluationRequest, error: str) -> list[Instruction]:
        """A request could not be run; the fleet has retried it by then."""
        self._queue.end(request)
        self._queue.fail(request, f"{_ACTIVITY[request.kind]} failed: {error}")
        return self._advance()

    def scoring_done(self, request: EvaluationRequest) -> list[Instruction]:
        """The scores of a request are recorded."""
        self._scoring.remove(request)
        return self._advance()

    def scoring_failed(self, request: EvaluationRequest, error: str) -> list[Instruction]:
        """A request's answers could not be scored."""
        self._scoring.remove(request)
        self._queue.fail(request, f"scoring failed: {error}")
        return self._advance()

    def tick(self) -> list[Instruction]:
        """Some time has passed: idle engines yield their slots to groups that wait."""
        return self._advance(self._groups)

    def _take_done(self, state: str) -> None:
        self._queue.state_done(state)
        group = self._groups.get(self._plan.states[state].engine)
        if group and group.start_state is None:
            group.start_state = state

    def _advance(self, groups: Iterable[str] = ()) -> list[Instruction]:
        """Do what is due for these groups and those whose requests changed; return what follows."""
        for name in dict.fromkeys([*self._queue.changed(), *groups]):
            group = self._groups.get(name)
            if group and group.phase is Phase.IDLE:
                self._ask_for_slot(name)
            elif group and group.phase is Phase.SERVING:
                self._fill_lanes(name)
        self._grant_slots()
        instructions, self._instructions = self._instructions, []
        return [*self._queue.failures(), *instructions]

    def _ask_for_slot(self, name: str) -> None:
        """Have a group wait for a slot if a request is ready, or start ahead in a free one."""
        group = self._groups[name]
        ready = bool(group.requests.ready)
        ahead = group.may_start_ahead and group.start_state is not None
        if ready or ahead:
            group.may_start_ahead = False  # the first chance is the only one
        if ready or (ahead and group.requests.open and self._slots.has_free(name)):
            group.phase = Phase.WAITING
            self._slots.enqueue(name)
            self._grant_slots()

    def _grant_slots(self) -> None:
        while (name := self._slots.grant()) is not None:
            self._use_slot(name)

    def _use_slot(self, name: str) -> None:
        """Start engines, unless all that is ready is answered and only needs scores."""
        group, answered = self._groups[name], self._queue.answered
        first = next((each for each in group.requests.ready if each not in answered), None)
        state = group.start_state
        if first is not None:
            state = first.state_id
        elif group.requests.ready:
            self._serve(name, engine=False)
            self._fill_lanes(name)
            return
        assert state is not None  # without a ready request only a start ahead takes a slot
        group.phase = Phase.STARTING
        self._instructions.append(StartEngine(name, state, ahead=first is None))

    def _serve(self, name: str, engine: bool) -> None:
        group = self._groups[name]
        group.phase, group.engine = Phase.SERVING, engine
        group.lanes = LANES * self._slots.replicas(name)

    def _fill_lanes(self, name: str) -> None:
        """Run ready requests in free lanes; end the lanes that have nothing to run."""
        group = self._groups[name]
        requests, answered = group.requests, self._queue.answered

        def can_run() -> bool:
            return group.engine or requests.ready[0] in answered

        while requests.ready and len(requests.running) < group.lanes and can_run():
            self._instructions.append(RunRequest(name, self._queue.take(name)))
        if requests.ready:
            over = not can_run()
        else:
            unplaced = not self._slots.replicas(name)
            over = not (requests.open and group.engine) or unplaced or bool(self._slots.waiting)
        if over:
            group.lanes = len(requests.running)
        if group.lanes == 0 and group.engine:
            group.phase = Phase.STOPPING
            self._instructions.append(StopEngine(name))
        elif group.lanes == 0:
            self._release(name)

    def _release(self, name: str) -> None:
        """Free the group's slot for the groups that wait; ask for one again if work is left."""
        group = self._groups[name]
        group.phase, group.engine = Phase.IDLE, False
        self._slots.release(name)
        self._grant_slots()
        self._ask_for_slot(name)
