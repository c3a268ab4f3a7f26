"""When states are questioned: each snapshot is asked and judged while the next ones train.

An event loop takes every state that is recorded and not yet answered to the engines of its kind
(`asking`), and the answers to the scorer (`judging`). Engines open when there is work for them, or
will be, at most as many kinds at a time as the layout has room for, and close when none is left. A
question that fails marks its own cell, with the error; the others go on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from dataclasses import dataclass

from ..placement import Layout
from ..plan import (
    ANSWERS,
    CODE_LENGTH,
    DISTANCES,
    QUERIES,
    EngineGroup,
    EvaluationRequest,
    Plan,
    pairs_of,
)
from ..progress.tracker import ProgressTracker
from ..serving.errors import error_summary
from ..serving.types import Answer
from .engine_slots import EngineSlots
from .inference import InferenceRunner
from .scoring import ScoringRunner

STARTS = 2
"""Failed starts of one kind of engine after which it is given up."""
LANES = 2
"""Questions that are out at a time, per replica."""
GIVE_WAY = 2.0
"""Seconds after which an idle engine looks whether another kind waits for its slot."""

_WORDS = {
    ANSWERS: "generation",
    QUERIES: "generation",
    CODE_LENGTH: "code lengths",
    DISTANCES: "distances",
}


@dataclass
class _Crew:
    """The lanes of an open kind of engine; `opened` is False where only scores are wanted."""

    group: asyncio.TaskGroup
    opened: bool
    lanes: int = 0


class Evaluator:
    """Asks and scores; `run` ends when every question is closed, lost, or its state failed."""

    def __init__(
        self,
        plan: Plan,
        tracker: ProgressTracker,
        layout: Layout,
        runner: InferenceRunner,
        judging: ScoringRunner,
    ) -> None:
        self._plan, self._tracker, self._runner, self._judging = plan, tracker, runner, judging
        self._probes = plan.requests()
        self._by_state: dict[str, list[EvaluationRequest]] = defaultdict(list)
        self._left: dict[str, int] = defaultdict(int)
        """Kind of engine -> questions neither closed nor given up."""
        self._unanswered: set[str] = set()
        """Kinds with a question that is not on record: an engine will be needed."""
        for question in self._probes:
            if question not in tracker.closed:
                kind = plan.engine_of(question)
                self._by_state[question.state_id].append(question)
                self._left[kind] += 1
                if question not in tracker.answered:
                    self._unanswered.add(kind)
        self._ready: dict[str, deque[EvaluationRequest]] = defaultdict(deque)
        self._waiting: dict[str, list[EvaluationRequest]] = defaultdict(list)
        """State -> distances that are measured on its answers, which are not on record yet."""
        self._slots = EngineSlots(layout)
        self._crews: dict[str, _Crew] = {}
        """The lanes of open kinds."""
        self._queueing: set[str] = set()
        """Kinds that have work, but no slot."""
        self._recorded: dict[str, str] = {}
        """Kind -> a state that is recorded: enough to start an engine on."""
        self._failures: dict[str, int] = defaultdict(int)
        self._broken: dict[str, str] = {}
        """Kinds whose engines cannot be had, and why."""
        self._work: dict[str, asyncio.Event] = {name: asyncio.Event() for name in self._left}
        self._scoring: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        tracker.listen(
            lambda event, state: self._loop.call_soon_threadsafe(self._heard, event, state)
        )

    def _heard(self, event: str, state: str) -> None:
        if event in ("done", "failed"):
            come = self._by_state.pop(state, [])
        else:  # answered, or never to be
            come = self._waiting.pop(state, [])
        if event == "done":
            engine = self._plan.states[state].engine
            for kind in (engine, pairs_of(engine)):
                self._recorded.setdefault(kind, state)
        for question in come:
            kind = self._plan.engine_of(question)
            if event == "failed":
                self._left[kind] -= 1
            elif kind in self._broken:
                self._lose(question, self._broken[kind])
            else:
                self._take(question)
            self._work[kind].set()
        if event == "failed":  # what is to be compared with it never can be
            for question in self._waiting.pop(state, []):
                self._take(question)
                self._work[self._plan.engine_of(question)].set()
        if event == "done" and engine in self._work:
            self._work[engine].set()

    def _take(self, question: EvaluationRequest) -> None:
        """Make a question ready; one about answers that are not there yet waits for them."""
        if question.reference is not None:
            answers = EvaluationRequest(question.reference, question.task, ANSWERS)
            if question.reference in self._tracker.failed:
                why = self._tracker.failed[question.reference]
                self._lose(question, f"its reference failed: {why}")
                return
            if answers in self._tracker.lost:
                why = self._tracker.lost[answers]
                self._lose(question, f"its reference has no answers to compare on: {why}")
                return
            if answers not in self._tracker.answered:
                self._waiting[question.reference].append(question)
                return
        self._ready[self._plan.engine_of(question)].append(question)

    async def run(self) -> None:
        """Serve every kind of engine to its end."""
        for state in self._plan.states:  # parents first: their checkpoints are kept the longest
            if state in self._tracker.done:
                self._heard("done", state)
            elif state in self._tracker.failed:
                self._heard("failed", state)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._judging.prepare())
                for name in self._left:
                    group.create_task(self._serve(self._plan.groups[name]))
            while self._scoring:
                await asyncio.gather(*self._scoring)
        finally:
            self._judging.cancel()

    async def _serve(self, group: EngineGroup) -> None:
        """Work off one kind's questions; hold an engine slot only while there are some, and at
        first while they are being made: an engine takes a minute to start."""
        name = group.name
        early = name in self._unanswered and not group.pairs
        while self._left[name] > 0:
            await self._wait(name, early)
            ahead, early = early and self._slots.free(name), False
            if not self._ready[name] and not ahead:
                continue
            self._queueing.add(name)
            async with self._slots.hold(name):
                self._queueing.discard(name)
                await self._work_off(group)

    async def _wait(self, kind: str, early: bool) -> None:
        while not self._ready[kind] and self._left[kind] > 0:
            if early and kind in self._recorded:
                return
            self._work[kind].clear()
            await self._work[kind].wait()

    async def _work_off(self, group: EngineGroup) -> None:
        """Open the engines, answer what is ready and what comes, close them."""
        opened = False
        try:
            state = self._state_to_open(group.name)
            if state is not None:
                await self._runner.place(group, self._slots.places(group.name))
                await self._runner.open(group, state)
                opened = True
            async with asyncio.TaskGroup() as lanes:
                self._crews[group.name] = _Crew(lanes, opened)
                self._man(group)
        except* Exception as problem:
            self._give_up(group.name, problem.exceptions[0])
        finally:
            self._crews.pop(group.name, None)
            if opened:
                await self._runner.close(group)

    def _man(self, group: EngineGroup) -> None:
        """Start the lanes that the kind's replicas can use: two jobs each, the second waits at the
        door while the first one ends."""
        crew, places = self._crews[group.name], self._slots.places(group.name)
        while crew.lanes < LANES * sum(places.values()):
            crew.lanes += 1
            crew.group.create_task(self._lane(group, crew))

    @property
    def waiting(self) -> int:
        """Questions that could be asked, but wait for an engine."""
        return sum(map(len, self._ready.values()))

    async def become(self, layout: Layout) -> None:
        """Nodes came or went: have engines where that layout says."""
        await self._slots.become(layout)
        for kind in self._slots.open:  # those that are being opened too
            if kind in self._slots.open:
                group = self._plan.groups[kind]
                await self._runner.place(group, self._slots.places(kind))
                crew = self._crews.get(kind)
                if crew and crew.opened and crew.lanes:  # without lanes it is about to close
                    self._man(group)

    def _state_to_open(self, kind: str) -> str | None:
        """A state to start the engine on; None where what is ready needs scores only."""
        if self._ready[kind]:
            asked = (q for q in self._ready[kind] if q not in self._tracker.answered)
            return next((question.state_id for question in asked), None)
        state = self._recorded[kind]
        try:
            self._runner.weights(self._plan.full_ancestor(state))
        except LookupError:
            return None
        return state

    async def _lane(self, group: EngineGroup, crew: _Crew) -> None:
        try:
            await self._work_in_lane(group, crew.opened)
        finally:
            crew.lanes -= 1

    async def _work_in_lane(self, group: EngineGroup, opened: bool) -> None:
        ready = self._ready[group.name]
        while True:
            if not ready:
                if self._left[group.name] <= 0 or self._queueing or not opened:
                    return
                await self._pause(group.name)
                continue
            if ready[0] not in self._tracker.answered and not opened:
                return
            question = ready.popleft()
            try:
                await self._ask(group, question)
            finally:
                self._left[group.name] -= 1
                self._work[group.name].set()

    async def _pause(self, kind: str) -> None:
        """Until there is news of this kind's states; woken now and then to give way."""
        self._work[kind].clear()
        try:
            await asyncio.wait_for(self._work[kind].wait(), timeout=GIVE_WAY)
        except TimeoutError:
            return

    async def _ask(self, group: EngineGroup, question: EvaluationRequest) -> None:
        try:
            if question.kind == CODE_LENGTH:
                return await self._runner.code_lengths(group, question)
            if question.kind == QUERIES:
                return await self._runner.teach(group, question)
            if question.kind == DISTANCES:
                return await self._runner.distances(group, question)
            answers = await self._runner.answers(group, question)
        except Exception as e:
            self._tracker.request_failed(question, f"{_WORDS[question.kind]} failed: {error_summary(e)}")
            return
        if not self._probes[question].scorer:
            self._tracker.request_closed(question)
            return
        scoring = asyncio.create_task(self._score(question, answers))
        self._scoring.add(scoring)
        scoring.add_done_callback(self._scoring.discard)

    async def _score(self, question: EvaluationRequest, answers: list[Answer]) -> None:
        try:
            await self._judging.score(question, answers)
        except Exception as e:
            self._tracker.request_failed(question, f"scoring failed: {error_summary(e)}")

    def _give_up(self, kind: str, problem: BaseException) -> None:
        """The engine cannot be had: what waits for it is lost, with the reason. After `STARTS`
        such failures so is what would come: each costs as much as a start."""
        self._failures[kind] += 1
        while self._ready[kind]:
            self._lose(self._ready[kind].popleft(), error_summary(problem))
        if self._failures[kind] >= STARTS:
            self._broken[kind] = f"the engine cannot be had: {error_summary(problem)}"

    def _lose(self, question: EvaluationRequest, why: str) -> None:
        self._tracker.request_failed(question, why)
        self._left[self._plan.engine_of(question)] -= 1
