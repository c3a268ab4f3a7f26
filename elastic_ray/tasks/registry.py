"""The tasks that a sweep file can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from . import alpaca, saferlhf, truthfulqa
from .imdb import Imdb
from .reviews import Reviews
from .task import Task, TaskError

TASKS: Mapping[str, Callable[..., Task]] = {
    "reviews": Reviews,
    "imdb": Imdb,
    "saferlhf": saferlhf.load,
    "alpaca": alpaca.load,
    "truthfulqa": truthfulqa.load,
}


def load_task(name: str, data: Mapping[str, Any] | None = None) -> Task:
    """Return the task of that name with the settings `data`.

    Raises `TaskError` for unknown names, settings and files.
    """
    if name not in TASKS:
        similar = get_close_matches(name, TASKS, n=1)
        suggestion = f" (did you mean {similar[0]!r}?)" if similar else ""
        raise TaskError(f"no task {name!r}{suggestion}; tasks: {', '.join(sorted(TASKS))}")
    settings = {str(key): value for key, value in (data or {}).items()}
    return TASKS[name](**settings)
