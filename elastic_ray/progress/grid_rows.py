"""Rows of the `cells`, `lessons` and `states` tables that show how a sweep is getting on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..plan import Lesson, Plan
from .tracker import ProgressTracker


def cell_rows(plan: Plan, tracker: ProgressTracker) -> list[dict[str, Any]]:
    """The `cells` table's rows as things stand."""
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
    """The `lessons` table's rows as things stand."""
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


@dataclass(frozen=True)
class Failure:
    """A state that failed, as the scheduler must record it (its trainer could not)."""

    state_id: str
    error: str
