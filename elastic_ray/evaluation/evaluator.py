"""Evaluates model states while later ones train: runs requests on engines, and scores the answers.

`EvaluationStateMachine` decides what to do; the evaluator carries out its instructions on one event
loop and reports the outcomes back. A request that fails is marked so, with its error; the others go
on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, assert_never

from ..placement import Layout
from ..plan import ANSWERS, CODE_LENGTH, DISTANCES, QUERIES, EvaluationRequest, Plan
from ..progress.tracker import ProgressTracker
from ..serving.errors import error_summary
from ..serving.types import Answer
from .inference import InferenceRunner
from .instructions import (
    CloseRequest,
    FailRequest,
    Instruction,
    PlaceEngine,
    RunRequest,
    ScoreAnswers,
    StartEngine,
    StopEngine,
)
from .scoring import ScoringRunner
from .state_machine import EvaluationStateMachine, Phase

IDLE_CHECK = 2.0
"""How often an idle engine checks whether another engine group waits for its slot (seconds)."""


class Evaluator:
    """Evaluates a plan: `run` returns when every request is closed or failed, or its state failed.

    Must be created and used on one event loop; the tracker may be changed from any thread.
    """

    def __init__(
        self,
        plan: Plan,
        tracker: ProgressTracker,
        layout: Layout,
        runner: InferenceRunner,
        scoring: ScoringRunner,
    ) -> None:
        self._plan, self._tracker, self._runner, self._scoring = plan, tracker, runner, scoring
        self._machine = EvaluationStateMachine(
            plan, layout.engine_slots, tracker.answered, tracker.closed
        )
        self._answers: dict[EvaluationRequest, list[Answer]] = {}
        """Answers on their way to the scorer."""
        self._engines: set[str] = set()
        """Engine groups whose engines run."""
        self._tasks: asyncio.TaskGroup | None = None
        """None before and after `run`."""
        self._finished = asyncio.Event()
        loop = asyncio.get_running_loop()
        tracker.listen(
            lambda event, state: loop.call_soon_threadsafe(self._on_tracker_event, event, state)
        )

    @property
    def waiting(self) -> int:
        """The number of requests that could run, but wait for an engine."""
        return self._machine.ready

    @property
    def idle(self) -> bool:
        """Whether nothing runs or could run now: what is left waits for states."""
        return self._machine.idle

    @property
    def engines_stopped(self) -> bool:
        """Whether no engine runs, starts or stops."""
        return self._machine.engines_stopped

    async def run(self) -> None:
        """Run all requests; an error of Serve itself, not of a request, is raised as a group."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                preparing = self._tasks.create_task(self._scoring.prepare())
                checking = self._tasks.create_task(self._check_idle())
                # Parents come first: their checkpoints are kept the longest.
                states, failed = self._plan.states, dict(self._tracker.failed)
                done = [state for state in states if state in self._tracker.done]
                errors = {state: failed[state] for state in states if state in failed}
                self._carry_out(self._machine.begin(done, errors))
                await self._finished.wait()
                checking.cancel()
                preparing.cancel()  # a scorer may still wait for its place
        finally:
            self._tasks = None
            self._scoring.cancel()
            await asyncio.gather(*map(self._close, list(self._engines)))

    async def use_layout(self, layout: Layout) -> None:
        """Have engines where a new layout places them: nodes joined or left."""
        for instruction in self._machine.layout_changed(layout.engine_slots):
            if isinstance(instruction, PlaceEngine):
                await self._place(instruction)
            else:
                self._carry_out([instruction])

    def _on_tracker_event(self, event: str, state: str) -> None:
        if self._tasks is None:
            return
        if event == "done":
            self._carry_out(self._machine.state_done(state))
        elif event == "failed" and state in self._tracker.failed:
            self._carry_out(self._machine.state_failed(state, self._tracker.failed[state]))

    async def _check_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_CHECK)
            self._carry_out(self._machine.tick())

    def _carry_out(self, instructions: Iterable[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case StartEngine():
                    self._start(self._start_engine(instruction))
                case StopEngine(group):
                    self._start(self._stop_engine(group))
                case PlaceEngine():
                    self._start(self._place(instruction))
                case RunRequest(group, request):
                    self._start(self._run_request(group, request))
                case ScoreAnswers(request):
                    self._start(self._score(request, self._answers.pop(request)))
                case CloseRequest(request):
                    del self._answers[request]
                    self._tracker.request_closed(request)
                case FailRequest(request, error):
                    self._tracker.request_failed(request, error)
                case _:
                    assert_never(instruction)
        if self._machine.finished:
            self._finished.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._tasks is not None  # instructions arrive only while `run` is active
        self._tasks.create_task(work)

    async def _start_engine(self, start: StartEngine) -> None:
        name, group = start.group, self._plan.groups[start.group]
        if start.ahead and not self._has_weights(start.state_id):
            self._carry_out(self._machine.engine_skipped(name))
            return
        try:
            await self._runner.place_engines(group, self._machine.places(name))
            await self._runner.start_engines(group, start.state_id)
        except Exception as e:
            if start.ahead and not self._has_weights(start.state_id):
                # They were deleted while the engine started: no request needs them any more.
                self._carry_out(self._machine.engine_skipped(name))
            else:
                self._carry_out(self._machine.engine_failed(name, error_summary(e)))
        else:
            self._engines.add(name)
            self._carry_out(self._machine.engine_started(name))

    def _has_weights(self, state: str) -> bool:
        """Return whether the checkpoint that engines of the state load first still exists."""
        try:
            self._runner.weights(self._plan.full_ancestor(state))
        except LookupError:
            return False
        return True

    async def _stop_engine(self, name: str) -> None:
        await self._close(name)
        self._carry_out(self._machine.engine_stopped(name))

    async def _close(self, name: str) -> None:
        self._engines.discard(name)
        await self._runner.stop_engines(self._plan.groups[name])

    async def _place(self, place: PlaceEngine) -> None:
        holding = (Phase.STARTING, Phase.SERVING, Phase.STOPPING)
        if self._machine.phase(place.group) in holding:  # it may have ended meanwhile
            await self._runner.place_engines(self._plan.groups[place.group], place.places)
            self._carry_out(self._machine.engine_placed(place.group))

    async def _run_request(self, name: str, request: EvaluationRequest) -> None:
        group, machine = self._plan.groups[name], self._machine
        try:
            if request.kind == ANSWERS:
                self._answers[request] = await self._runner.answers(group, request)
            elif request.kind == CODE_LENGTH:
                await self._runner.code_lengths(group, request)
            elif request.kind == QUERIES:
                await self._runner.lesson_answers(group, request)
            elif request.kind == DISTANCES:
                await self._runner.distances(group, request)
        except Exception as e:
            self._carry_out(machine.request_failed(request, error_summary(e)))
        else:
            answered = request.kind == ANSWERS
            outcome = machine.request_answered if answered else machine.request_closed
            self._carry_out(outcome(request))

    async def _score(self, request: EvaluationRequest, answers: list[Answer]) -> None:
        try:
            await self._scoring.score(request, answers)
        except Exception as e:
            self._carry_out(self._machine.scoring_failed(request, error_summary(e)))
        else:
            self._carry_out(self._machine.scoring_done(request))
