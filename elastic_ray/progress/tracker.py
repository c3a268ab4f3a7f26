"""The driver's live picture of a sweep: which states, answers and scores are there.

Threads meet here (Tune's and the event loop's), so every change goes through a lock, and those who
wait are told through `listen`. The board only mirrors the record: a state is marked done after its
row is written (design, rule 2). No ray.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

from ..plan import QUERIES, Answers, Dependency, EvaluationRequest, Ladder, Plan, Point


class ProgressTracker:
    """What is done, what failed, what runs."""

    def __init__(
        self,
        plan: Plan,
        done: Iterable[str],
        answered: Iterable[EvaluationRequest],
        closed: Iterable[EvaluationRequest],
    ) -> None:
        self.plan = plan
        self._lock = threading.RLock()
        self._listeners: list[Callable[[str, str], None]] = []
        self.done = {state for state in done if state in plan.states}
        self.failed: dict[str, str] = {}
        self.answered = set(answered)
        """Questions whose answers are on record, scored or not."""
        self.closed = set(closed)
        """Questions of which all is on record: answers and their scores, or code lengths."""
        self.lost: dict[EvaluationRequest, str] = {}
        """Questions that failed although their state is there, with the error."""
        self.examples: dict[str, int] = {}
        """ladder id -> examples of it trained so far, of the ladders that run."""
        self.running: dict[str, str] = {}
        """What runs now, for people: key -> words."""
        self.progress = ""
        """The screen's last line, for those who look from elsewhere."""
        self.spent: dict[str, float] = defaultdict(float)
        """Seconds by kind of work, summed over trainers and replicas."""
        self.counts: dict[str, int] = defaultdict(int)
        """What was counted since the run began, by name."""
        self.started = time.monotonic()
        self.children: dict[str, list[Ladder]] = defaultdict(list)
        for ladder in plan.ladders:
            for state in ladder.made_from:
                self.children[state].append(ladder)
        self._taught = {
            Answers(asked.state_id, str(probe.queries)): asked
            for asked, probe in plan.requests().items()
            if asked.kind == QUERIES
        }

    def listen(self, listener: Callable[[str, str], None]) -> None:
        """Call `listener(event, state_id)` after each change; from any thread."""
        self._listeners.append(listener)

    def _tell(self, event: str, state: str) -> None:
        for listener in self._listeners:
            listener(event, state)

    def state_done(self, state: str) -> None:
        with self._lock:
            self.failed.pop(state, None)
            self.done.add(state)
        self._tell("done", state)

    def state_failed(self, state: str, error: str) -> list[str]:
        """Mark a state failed and, with it, all that would start from it; returns the latter."""
        fell: list[str] = []
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
                            fell.append(rung.state_id)
                            stack.append(rung.state_id)
        for each in (state, *fell):
            self._tell("failed", each)
        return fell

    def request_answered(self, question: EvaluationRequest) -> None:
        with self._lock:
            self.answered.add(question)
        self._tell("answered", question.state_id)

    def request_closed(self, question: EvaluationRequest) -> None:
        with self._lock:
            self.closed.add(question)
            self.lost.pop(question, None)
        self._tell("closed", question.state_id)

    def request_failed(self, question: EvaluationRequest, error: str) -> None:
        """Mark a question lost and, where a state was to learn from it, that state failed."""
        with self._lock:
            self.lost[question] = error
        if question.kind == QUERIES:
            for ladder in self.children[question.state_id]:
                taught = self._taught.get(ladder.stage.answers) if ladder.stage.answers else None
                for rung in ladder.rungs if taught == question else ():
                    self.state_failed(rung.state_id, f"its teacher did not answer: {error}")
        self._tell("lost", question.state_id)

    def trained(self, ladder: str, examples: int) -> None:
        with self._lock:
            self.examples[ladder] = examples

    def now(self, key: str, words: str | None) -> None:
        """Set, or with None remove, a line of what runs now."""
        with self._lock:
            if words is None:
                self.running.pop(key, None)
            else:
                self.running[key] = words

    def took(self, kind: str, seconds: float) -> None:
        with self._lock:
            self.spent[kind] += seconds

    def counted(self, name: str, number: int) -> None:
        with self._lock:
            self.counts[name] += number

    def examples_trained(self) -> int:
        """Examples that training has seen on the way to what is recorded, or runs now: what a
        crash has others see again counts once."""
        return sum(
            max(
                self.examples.get(ladder.id, 0),
                *(rung.examples for rung in ladder.rungs if rung.state_id in self.done),
                0,
            )
            for ladder in self.plan.ladders
        )

    def settled(self, need: Dependency) -> bool:
        """Whether it is known how that came out: on record, or failed."""
        if isinstance(need, Answers):
            asked = self._taught[need]
            return asked in self.closed or asked in self.lost or asked.state_id in self.failed
        return need in self.done or need in self.failed

    def finished(self, ladder: Ladder) -> bool:
        """Whether every state of the ladder is."""
        return all(self.settled(rung.state_id) for rung in ladder.rungs)

    def measured(self, point: Point) -> bool:
        """Whether all that is asked of the point's state is on record."""
        return all(question in self.closed for question in self.plan.requests_of(point))

    def error(self, point: Point) -> str | None:
        """What keeps, or kept, something that is asked of the point's state from the record."""
        lost = (self.lost.get(question) for question in self.plan.requests_of(point))
        return next(filter(None, lost), None) or self.failed.get(point.state_id)

    def status(self, point: Point) -> tuple[str, str | None]:
        """done, failed or pending, as the tables say it; and the error, if it failed."""
        if self.measured(point):
            return "done", None
        error = self.error(point)
        return ("failed" if error else "pending"), error
