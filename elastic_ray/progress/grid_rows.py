"""Rows of the `cells`, `lessons` and `states` tables that the driver writes itself.

`cells` and `lessons` show how far each point of the grid is; the driver replaces all of a sweep's
rows while it runs. In `states` it records only failures that no trainer could record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..plan import Lesson, Plan
from ..results.errors import ResultsError
from ..results.state_rows import PlannedState, failed_row
from ..results.store import Results
from .tracker import ProgressTracker


@dataclass(frozen=True)
class Failure:
    """A failed state that its trainer could not record, and the error message."""

    state_id: str
    error: str


def cell_rows(plan: Plan, tracker: ProgressTracker) -> list[dict[str, Any]]:
    """Return the `cells` rows of the sweep, with each cell's present status."""
    rows = []
    for cell in plan.cells:
        status, error = tracker.status(cell)
        probe = plan.probes[cell.task]
        rows.append(
            {
                "sweep": plan.spec.sweep,
                "model": cell.model,
                "task": cell.task,
                "pretrain": cell.pretrain,
                "positive": cell.positive,
                "negative": cell.negative,
                "seed": cell.seed,
                "state_id": cell.state_id,
                "probe_id": probe.probe_id,
                "scorer": probe.scorer,
                "status": status,
                "parameters": plan.groups[plan.states[cell.state_id].engine].parameters,
                "error": error,
            }
        )
    return rows


def lesson_rows(plan: Plan, tracker: ProgressTracker) -> list[dict[str, Any]]:
    """Return the `lessons` rows of the sweep, with each lesson's present status."""
    return [_lesson_row(plan, tracker, lesson) for lesson in plan.lessons]


def _lesson_row(plan: Plan, tracker: ProgressTracker, lesson: Lesson) -> dict[str, Any]:
    status, error = tracker.status(lesson)
    return {
        "sweep": plan.spec.sweep,
        "model": lesson.model,
        "task": lesson.task,
        "pretrain": lesson.pretrain,
        "k": lesson.pair[0],
        "l": lesson.pair[1],
        "direction": lesson.direction,
        "seed": lesson.seed,
        "teacher_positive": lesson.teacher,
        "student_positive": lesson.student,
        "teacher_id": lesson.teacher_id,
        "student_id": lesson.student_id,
        "state_id": lesson.state_id,
        "probe_id": plan.probes[lesson.task].distances,
        "status": status,
        "parameters": plan.groups[plan.states[lesson.state_id].engine].parameters,
        "error": error,
    }


def write_grid_rows(results: Results, plan: Plan, tracker: ProgressTracker) -> None:
    """Replace the sweep's `cells` rows, and its `lessons` rows where it has or had lessons.

    Raises `ResultsError` if the results cannot be written.
    """
    sweep = plan.spec.sweep
    results.replace("cells", sweep, cell_rows(plan, tracker))
    if plan.lessons or results.has("lessons", sweep=sweep):
        results.replace("lessons", sweep, lesson_rows(plan, tracker))


def record_failures(results: Results, plan: Plan, failures: Iterable[Failure]) -> None:
    """Write a `states` row for each failure.

    A full disk cannot take the rows; the error is then found in the sweep's cells only.
    """
    for failure in failures:
        state = plan.states[failure.state_id]
        planned = PlannedState(
            state_id=state.state_id,
            parent_id=state.parent_id,
            kind=state.stage.kind if state.stage else "start",
            examples=state.examples,
            lineage=plan.lineage(state.state_id),
            sweep=plan.spec.sweep,
        )
        with contextlib.suppress(ResultsError):
            results.write("states", [failed_row(planned, failure.error)])
