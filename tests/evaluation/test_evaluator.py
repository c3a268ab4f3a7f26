"""The evaluator ends after any failure, and reports the reasons."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from small_sweeps import COMMIT, plan_of, spec_of

from elastic_ray.evaluation.evaluator import Evaluator
from elastic_ray.placement import lay_out, parse_cluster
from elastic_ray.placement.layout import EngineMemory
from elastic_ray.plan import ANSWERS, DISTANCES, EngineGroup, EvaluationRequest, Plan
from elastic_ray.progress.tracker import ProgressTracker
from elastic_ray.spec import Resources, Runtime

HUB = {"name": "a-1b", "hub": "some/a-1b", "revision": COMMIT}


class Answering:
    """Stands in for the runners: ends every request at once; those in `fails` fail."""

    def __init__(self, plan: Plan, tracker: ProgressTracker, fails: set[EvaluationRequest]) -> None:
        self._plan, self._tracker, self._fails = plan, tracker, fails

    async def start_engines(self, group: EngineGroup, state: str) -> None: ...

    async def stop_engines(self, group: EngineGroup) -> None: ...

    async def place_engines(self, group: EngineGroup, places: Any) -> None: ...

    def weights(self, state: str) -> None: ...

    async def prepare(self) -> None: ...

    def cancel(self) -> None: ...

    async def _closes(self, group: EngineGroup, request: EvaluationRequest) -> None:
        if request in self._fails:
            raise RuntimeError("the engine died")
        self._tracker.request_answered(request)
        self._tracker.request_closed(request)

    lesson_answers = code_lengths = distances = _closes

    async def answers(self, group: EngineGroup, request: EvaluationRequest) -> list[Any]:
        if request in self._fails:
            raise RuntimeError("the engine died")
        self._tracker.request_answered(request)
        return []


def evaluate(plan: Plan, tracker: ProgressTracker, runner: Answering, then: Any = None) -> None:
    """Run an evaluator to its end; `then` is called meanwhile."""
    memory = {name: EngineMemory() for name in plan.groups}
    layout = lay_out(parse_cluster("1x8xA100"), Runtime(), Resources(), memory, [])

    async def run() -> None:
        evaluator = Evaluator(plan, tracker, layout, runner, runner)  # type: ignore[arg-type]
        running = asyncio.ensure_future(evaluator.run())
        await asyncio.sleep(0.1)
        if then:
            then()
        await asyncio.wait_for(running, timeout=20)

    asyncio.run(run())


def lessons() -> Plan:
    return plan_of(
        spec_of(
            task={"name": "reviews", "scorer": "none"},
            models=[HUB],
            positive=[8, 16, 24],
            negative=[],
            lessons={"pairs": [[1, 2], [1, 3]], "queries": 8},
        )
    )


def test_every_request_is_closed() -> None:
    plan = lessons()
    tracker = ProgressTracker(plan, plan.states, [], [])
    evaluate(plan, tracker, Answering(plan, tracker, set()))
    assert tracker.closed == set(plan.requests()) and not tracker.lost


@pytest.mark.parametrize("late", [False, True])
def test_requests_that_compare_with_a_failed_teacher_fail(late: bool) -> None:
    plan = lessons()
    third = next(cell.state_id for cell in plan.cells if cell.positive == 24)
    taught = {les.state_id for les in plan.lessons if third in (les.teacher_id, les.student_id)}
    tracker = ProgressTracker(plan, set(plan.states) - {third} - taught, [], [])

    def fails() -> None:
        tracker.state_failed(third, "diverged at step 3")

    if not late:
        fails()
    evaluate(plan, tracker, Answering(plan, tracker, set()), fails if late else None)
    lost = [request for request in tracker.lost if request.reference == third]
    assert lost and all("its reference failed: diverged" in tracker.lost[q] for q in lost)
    assert {les.state_id for les in plan.lessons if tracker.status(les)[0] == "failed"} == taught


def test_requests_that_compare_with_a_teacher_without_answers_fail() -> None:
    plan = lessons()
    third = next(cell.state_id for cell in plan.cells if cell.positive == 24)
    tracker = ProgressTracker(plan, plan.states, [], [])
    evaluate(
        plan, tracker, Answering(plan, tracker, {EvaluationRequest(third, "reviews", ANSWERS)})
    )
    compared = {q for q in plan.requests() if q.kind == DISTANCES and q.reference == third}
    assert compared and compared < set(tracker.lost)
    assert all("no answers to compare on" in tracker.lost[request] for request in compared)
