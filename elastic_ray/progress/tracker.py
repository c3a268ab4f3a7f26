"""Tracks which states and evaluation requests of a plan are done, failed or open during a run.

The tracker mirrors the record: a state is marked done after its row is written
(docs/concepts.md#rule-2). It may be changed from any thread (Ray Tune's and the event loop's);
listeners are called on the thread that makes the change. It imports no ray.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable

from ..plan import QUERIES, Answers, Dependency, EvaluationRequest, Ladder, Plan, Point
from .activity import RunActivity


class ProgressTracker:
    """The progress of one plan; `done`, `answered` and `closed` are what is already recorded."""

    def __init__(
        self,
        plan: Plan,
        done: Iterable[str],
        answered: Iterable[EvaluationRequest],
        closed: Iterable[EvaluationRequest],
    ) -> None:
        self.plan = plan
        self.activity = RunActivity()
        self._lock = threading.RLock()
        self._listeners: list[Callable[[str, str], object]] = []
        self.done = {state for state in done if state in plan.states}
        """Ids of the recorded states."""
        self.failed: dict[str, str] = {}
        """Id of a failed state -> its error."""
        self.answered = set(answered)
        """Requests whose answers are recorded, scored or not."""
        self.closed = set(closed)
        """Requests all of whose results are recorded: scored answers, code lengths, distances."""
        self.lost: dict[EvaluationRequest, str] = {}
        """Failed requests of states that are done -> their error."""
        self.examples: dict[str, int] = {}
        """Id of a ladder that runs -> examples trained so far."""
        self.children: dict[str, list[Ladder]] = defaultdict(list)
        """Id of a state -> ladders that start from it or learn from its answers."""
        for ladder in plan.ladders:
            for state in ladder.made_from:
                self.children[state].append(ladder)
        self._taught = {
            Answers(request.state_id, str(probe.queries)): request
            for request, probe in plan.requests().items()
            if request.kind == QUERIES
        }

    def listen(self, listener: Callable[[str, str], object]) -> None:
        """Call `listener(event, state_id)` after each change, on the thread that makes it.

        Events: "done" and "failed" of a state; "answered", "closed" and "lost" of one of its
        requests.
        """
        self._listeners.append(listener)

    def _notify(self, event: str, state: str) -> None:
        for listener in self._listeners:
            listener(event, state)

    def state_done(self, state: str) -> None:
        """Mark a state done, once its row is written."""
        with self._lock:
            self.failed.pop(state, None)
            self.done.add(state)
        self._notify("done", state)

    def state_failed(self, state: str, error: str) -> list[str]:
        """Mark a state failed, and with it all states made from it; return the latter."""
        descendants: list[str] = []
        with self._lock:
            if state in self.done:
                return []
            self.failed.setdefault(state, error)
            stack = [state]
            while stack:
                parent = stack.pop()
                for ladder in self.children[parent]:
                    for rung in ladder.rungs:
                        if rung.state_id not in self.done and rung.state_id not in self.failed:
                            self.failed[rung.state_id] = f"parent {parent} failed: {error}"
                            descendants.append(rung.state_id)
                            stack.append(rung.state_id)
        for each in (state, *descendants):
            self._notify("failed", each)
        return descendants

    def request_answered(self, request: EvaluationRequest) -> None:
        """Mark a request answered, once its answers are written."""
        with self._lock:
            self.answered.add(request)
        self._notify("answered", request.state_id)

    def request_closed(self, request: EvaluationRequest) -> None:
        """Mark a request closed, once all its results are written."""
        with self._lock:
            self.closed.add(request)
            self.lost.pop(request, None)
        self._notify("closed", request.state_id)

    def request_failed(self, request: EvaluationRequest, error: str) -> None:
        """Mark a request failed and, where states were to learn from its answers, those states."""
        with self._lock:
            self.lost[request] = error
        if request.kind == QUERIES:
            for ladder in self.children[request.state_id]:
                taught = self._taught.get(ladder.stage.answers) if ladder.stage.answers else None
                for rung in ladder.rungs if taught == request else ():
                    self.state_failed(rung.state_id, f"its teacher did not answer: {error}")
        self._notify("lost", request.state_id)

    def ladder_advanced(self, ladder: str, examples: int) -> None:
        """Set how many examples a running ladder has trained."""
        with self._lock:
            self.examples[ladder] = examples

    def examples_trained(self) -> int:
        """Return the examples trained on the way to what is recorded or runs now.

        Examples that are trained again after a crash count once.
        """
        return sum(
            max(
                self.examples.get(ladder.id, 0),
                *(rung.examples for rung in ladder.rungs if rung.state_id in self.done),
                0,
            )
            for ladder in self.plan.ladders
        )

    def settled(self, dependency: Dependency) -> bool:
        """Return whether a dependency is recorded or has failed."""
        if isinstance(dependency, Answers):
            request = self._taught[dependency]
            ended = request in self.closed or request in self.lost
            return ended or request.state_id in self.failed
        return dependency in self.done or dependency in self.failed

    def finished(self, ladder: Ladder) -> bool:
        """Return whether every state of the ladder is recorded or has failed."""
        return all(self.settled(rung.state_id) for rung in ladder.rungs)

    def measured(self, point: Point) -> bool:
        """Return whether all requests of a cell or lesson are closed."""
        return all(request in self.closed for request in self.plan.requests_of(point))

    def status(self, point: Point, recorded_error: str | None = None) -> tuple[str, str | None]:
        """Return the status of a cell or lesson, "done", "failed" or "pending", and its error.

        `recorded_error` is the error of the point's row that another process wrote, for a tracker
        that was restored from the results: failed requests are in the rows of points only.
        """
        if self.measured(point):
            return "done", None
        lost = (self.lost.get(request) for request in self.plan.requests_of(point))
        error = next(filter(None, lost), None) or self.failed.get(point.state_id) or recorded_error
        return ("failed" if error else "pending"), error
