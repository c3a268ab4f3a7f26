"""The tasks that a sweep file can name, and how one is loaded."""

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
    """The task of that name with its settings; `TaskError` for unknown names, settings, files."""
    if name not in TASKS:
        near = get_close_matches(name, TASKS, n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise TaskError(f"no task {name!r}{meant}; tasks: {', '.join(sorted(TASKS))}")
    settings = {str(key): value for key, value in (data or {}).items()}
    return TASKS[name](**settings)
