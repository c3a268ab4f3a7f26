"""When states are questioned: whatever fails, the prober comes to its end and says why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from small_sweeps import COMMIT, plan_of, spec_of

from elastic_ray.evaluation.evaluator import Evaluator
from elastic_ray.placement import described, lay_out
from elastic_ray.placement.layout import EngineMemory
from elastic_ray.plan import ANSWERS, DISTANCES, EngineGroup, Plan, Question
from elastic_ray.progress.tracker import ProgressTracker
from elastic_ray.spec import Resources, Runtime

HUB = {"name": "a-1b", "hub": "some/a-1b", "revision": COMMIT}


class Answering:
    """Answers every question at once; `fails` are questions that it cannot."""

    def __init__(self, plan: Plan, board: ProgressTracker, fails: set[Question]) -> None:
        self._plan, self._board, self._fails = plan, board, fails

    async def open(self, group: EngineGroup, state: str) -> None: ...

    async def close(self, group: EngineGroup) -> None: ...

    async def place(self, group: EngineGroup, places: Any) -> None: ...

    def weights(self, state: str) -> None: ...

    async def prepare(self) -> None: ...

    def cancel(self) -> None: ...

    async def _closes(self, group: EngineGroup, question: Question) -> None:
        if question in self._fails:
            raise RuntimeError("the engine died")
        self._board.question_answered(question)
        self._board.question_closed(question)

    teach = code_lengths = distances = _closes

    async def answers(self, group: EngineGroup, question: Question) -> list[Any]:
        if question in self._fails:
            raise RuntimeError("the engine died")
        self._board.question_answered(question)
        return []


def probed(plan: Plan, board: ProgressTracker, asker: Answering, then: Any = None) -> None:
    """Run a prober to its end; `then` happens meanwhile."""
    kinds = {name: EngineMemory() for name in plan.groups}
    layout = lay_out(described("1x8xA100"), Runtime(), Resources(), kinds, [])

    async def run() -> None:
        prober = Evaluator(plan, board, layout, asker, asker)  # type: ignore[arg-type]
        running = asyncio.ensure_future(prober.run())
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


def test_all_is_closed() -> None:
    plan = lessons()
    board = ProgressTracker(plan, plan.nodes, [], [])
    probed(plan, board, Answering(plan, board, set()))
    assert board.closed == set(plan.questions()) and not board.lost


@pytest.mark.parametrize("late", [False, True])
def test_a_teacher_that_failed_leaves_nobody_waiting(late: bool) -> None:
    plan = lessons()
    third = next(cell.state_id for cell in plan.cells if cell.positive == 24)
    taught = {les.state_id for les in plan.lessons if third in (les.teacher_id, les.student_id)}
    board = ProgressTracker(plan, set(plan.nodes) - {third} - taught, [], [])

    def fails() -> None:
        board.state_failed(third, "diverged at step 3")

    if not late:
        fails()
    probed(plan, board, Answering(plan, board, set()), fails if late else None)
    lost = [question for question in board.lost if question.reference == third]
    assert lost and all("its reference failed: diverged" in board.lost[q] for q in lost)
    assert {les.state_id for les in plan.lessons if board.status(les)[0] == "failed"} == taught


def test_a_teacher_without_answers_loses_what_is_compared_on_them() -> None:
    plan = lessons()
    third = next(cell.state_id for cell in plan.cells if cell.positive == 24)
    board = ProgressTracker(plan, plan.nodes, [], [])
    probed(plan, board, Answering(plan, board, {Question(third, "reviews", ANSWERS)}))
    compared = {q for q in plan.questions() if q.kind == DISTANCES and q.reference == third}
    assert compared and compared < set(board.lost)
    assert all("no answers to compare on" in board.lost[question] for question in compared)
