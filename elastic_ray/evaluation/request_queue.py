"""Which evaluation requests wait, are ready, or have ended, by engine group.

A request waits until its state is done. One that compares with a reference state also waits until
that state's answers are recorded, and fails if they never will be. Pure and synchronous; the state
machine (`state_machine`) reports the events and takes what is ready.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass, field

from ..plan import ANSWERS, EvaluationRequest, Plan
from .instructions import FailRequest


@dataclass
class GroupRequests:
    """The requests of one engine group."""

    needs_engine: bool = False
    """Whether at least one was not answered at the start: an engine will be needed."""
    open: int = 0
    """Requests that have neither ended on the engines nor failed, nor their state."""
    ready: deque[EvaluationRequest] = field(default_factory=deque)
    running: set[EvaluationRequest] = field(default_factory=set)
    given_up: str | None = None
    """Why no request of the group can run any more."""


class RequestQueue:
    """The requests of a plan that are not in `closed`; `answered` have recorded answers."""

    def __init__(
        self,
        plan: Plan,
        answered: Collection[EvaluationRequest],
        closed: Collection[EvaluationRequest],
    ) -> None:
        self._plan = plan
        self.answered = set(answered)
        self.groups: dict[str, GroupRequests] = {}
        """By name of the engine group; those with a request that is not closed."""
        self._done: set[str] = set()
        self._failed: dict[str, str] = {}
        """Failed state -> its error."""
        self._lost: dict[EvaluationRequest, str] = {}
        """Failed request -> its error."""
        self._pending: dict[str, list[EvaluationRequest]] = defaultdict(list)
        """State that is neither done nor failed -> its requests."""
        self._waiting: dict[str, list[EvaluationRequest]] = defaultdict(list)
        """Reference state -> requests that wait for its answers."""
        self._changed: dict[str, None] = {}
        self._failures: list[FailRequest] = []
        for request in plan.requests():
            if request not in closed:
                group = self.groups.setdefault(plan.engine_of(request), GroupRequests())
                group.open += 1
                group.needs_engine |= request not in self.answered
                self._pending[request.state_id].append(request)

    def state_done(self, state: str) -> None:
        """Make the requests of a recorded state ready, or have them wait for their reference."""
        self._done.add(state)
        self._failed.pop(state, None)
        for request in self._pending.pop(state, ()):
            self._admit(request)

    def state_failed(self, state: str, error: str) -> None:
        """End the requests of a failed state (the state's error is theirs), and fail those that
        compare with it."""
        if state in self._done or state in self._failed:
            return
        self._failed[state] = error
        for request in self._pending.pop(state, ()):
            self._change(request).open -= 1
        self._admit_waiting(state)

    def take(self, group: str) -> EvaluationRequest:
        """Move the first ready request of the group to its running ones, and return it."""
        requests = self.groups[group]
        request = requests.ready.popleft()
        requests.running.add(request)
        return request

    def end(self, request: EvaluationRequest) -> None:
        """A running request has ended on the engines, whatever its outcome."""
        group = self._change(request)
        group.running.remove(request)
        group.open -= 1

    def add_answered(self, request: EvaluationRequest) -> None:
        """A request's answers are recorded: requests that compare with them become ready."""
        self.answered.add(request)
        self._admit_waiting(request.state_id)

    def fail(self, request: EvaluationRequest, error: str) -> None:
        """Fail a request that has ended on the engines, and those that needed its answers."""
        self._lost[request] = error
        self._failures.append(FailRequest(request, error))
        self._admit_waiting(request.state_id)

    def fail_ready(self, group: str, error: str) -> None:
        """Fail all ready requests of a group: its engines did not start."""
        ready = self.groups[group].ready
        while ready:
            self._drop(ready.popleft(), error)

    def give_up(self, group: str, reason: str) -> None:
        """Fail all later requests of a group with that reason."""
        self.groups[group].given_up = reason

    def changed(self) -> list[str]:
        """Return the groups whose requests have changed since the last call."""
        changed, self._changed = list(self._changed), {}
        return changed

    def failures(self) -> list[FailRequest]:
        """Return the requests that have failed since the last call."""
        failures, self._failures = self._failures, []
        return failures

    def _admit(self, request: EvaluationRequest) -> None:
        """Make a request of a done state ready, unless its group or its reference prevents it."""
        group = self._change(request)
        if group.given_up:
            return self._drop(request, group.given_up)
        if request.reference is not None:
            answers = EvaluationRequest(request.reference, request.task, ANSWERS)
            if error := self._failed.get(request.reference):
                return self._drop(request, f"its reference failed: {error}")
            if error := self._lost.get(answers):
                why = f"its reference has no answers to compare on: {error}"
                return self._drop(request, why)
            if answers not in self.answered:
                self._waiting[request.reference].append(request)
                return
        group.ready.append(request)

    def _admit_waiting(self, reference: str) -> None:
        for request in self._waiting.pop(reference, ()):
            self._admit(request)

    def _drop(self, request: EvaluationRequest, error: str) -> None:
        """Fail a request that never ran."""
        self._change(request).open -= 1
        self.fail(request, error)

    def _change(self, request: EvaluationRequest) -> GroupRequests:
        """Return the group of a request, and note that it changes."""
        name = self._plan.engine_of(request)
        self._changed[name] = None
        return self.groups[name]
