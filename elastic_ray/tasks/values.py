"""Values of data files as what a task needs: texts, labels, truth values.

Files without types, such as CSV, hold texts only, and some writers turn whole numbers into floats.
Each function raises `TaskError` with the file, row, column, what was found and what is allowed.
"""

from __future__ import annotations

import math
from typing import Any

from .source import Table
from .task import TaskError

_SHOWN = 200
"""Characters of a value that an error message shows."""


def problem(task: str, table: Table, row: int, column: str, value: Any, needed: str) -> TaskError:
    """Return the error for a value that cannot be used."""
    found = repr(value)
    if len(found) > _SHOWN:
        found = f"{found[:_SHOWN]}... ({len(found):,} characters)"
    return TaskError(f"task {task}: {table.where}: row {row}: {column}: found {found}; {needed}")


def text_of(task: str, table: Table, row: int, column: str, value: Any) -> str:
    """Return a text, stripped; it may be empty. A number is its digits, as in a CSV file."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and math.isfinite(value):
        return str(value)
    if not isinstance(value, str):
        raise problem(task, table, row, column, value, "a text is needed")
    return value.strip()


def some_text_of(task: str, table: Table, row: int, column: str, value: Any) -> str:
    """Return a text, stripped and not empty."""
    if not (text := text_of(task, table, row, column, value)):
        raise problem(task, table, row, column, value, "a text is needed")
    return text


def label_of(task: str, table: Table, row: int, column: str, value: Any) -> int:
    """Return a label, 0 or 1."""
    known = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
    label = known.get(value.strip()) if isinstance(value, str) else value
    if isinstance(label, bool) or not isinstance(label, (int, float)) or label not in (0, 1):
        raise problem(task, table, row, column, value, "allowed: 0 and 1")
    return int(label)


def truth_of(task: str, table: Table, row: int, column: str, value: Any) -> bool:
    """Return a truth value, true or false."""
    known = {"true": True, "false": False}
    truth = known.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(truth, bool):
        raise problem(task, table, row, column, value, "allowed: true and false")
    return truth
