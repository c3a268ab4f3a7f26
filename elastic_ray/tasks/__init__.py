"""What a model is taught and asked: one class per task, all with the interface of `Task`.

To add one: write a class like `reviews.Reviews`, or a reader of dialogues like `saferlhf`, and name
it in `TASKS`. Nothing here imports torch or ray, and transformers only where a tokenizer is made:
planning needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from . import alpaca, saferlhf, truthfulqa
from .imdb import Imdb
from .reviews import Reviews
from .selection import selection
from .task import CORPORA, POOLS, Example, Task, TaskError, Unreachable

__all__ = [
    "CORPORA",
    "POOLS",
    "TASKS",
    "Example",
    "Task",
    "TaskError",
    "Unreachable",
    "load_task",
    "selection",
]

TASKS: Mapping[str, Callable[..., Task]] = {
    "reviews": Reviews,
    "imdb": Imdb,
    "saferlhf": saferlhf.load,
    "alpaca": alpaca.load,
    "truthfulqa": truthfulqa.load,
}


def load_task(name: str, data: Mapping[str, Any] | None = None) -> Task:
    """The task of that name with its settings; `TaskError` for unknown names, settings, files."""
    if name not in TASKS:
        near = get_close_matches(name, TASKS, n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise TaskError(f"no task {name!r}{meant}; tasks: {', '.join(sorted(TASKS))}")
    settings = {str(key): value for key, value in (data or {}).items()}
    return TASKS[name](**settings)
