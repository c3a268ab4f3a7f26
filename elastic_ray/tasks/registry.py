"""The tasks that a sweep file can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from . import alpaca, beavertails, saferlhf, truthfulqa
from .file_task import FileTask
from .imdb import Imdb
from .reverse import SETTING, Reversed
from .reviews import Reviews
from .task import Task, TaskError

TASKS: Mapping[str, Callable[..., Task]] = {
    "reviews": Reviews,
    "imdb": Imdb,
    "saferlhf": saferlhf.load,
    "beavertails": beavertails.load,
    "alpaca": alpaca.load,
    "truthfulqa": truthfulqa.load,
}


def load_task(name: str, data: Mapping[str, Any] | None = None) -> Task:
    """Return the task of that name with the settings `data`; one with `pools` is a `FileTask`.

    Every task takes the setting `reverse` (see `reverse.Reversed`). Raises `TaskError` for unknown
    names, settings and files.
    """
    settings = {str(key): value for key, value in (data or {}).items()}
    written = "pools" in settings
    if written and name in TASKS:
        raise TaskError(f"task {name}: data.pools: found for a task of the package; name it anew")
    if not written and name not in TASKS:
        similar = get_close_matches(name, TASKS, n=1)
        suggestion = f" (did you mean {similar[0]!r}?)" if similar else ""
        raise TaskError(
            f"no task {name!r}{suggestion}; tasks: {', '.join(sorted(TASKS))}; a task of your own "
            "has data.pools"
        )
    backwards = settings.pop(SETTING, False)
    if not isinstance(backwards, bool):
        raise TaskError(
            f"task {name}: data.{SETTING}: found {backwards!r}; allowed: true and false"
        )
    task = FileTask(name, **settings) if written else TASKS[name](**settings)
    return Reversed(task) if backwards else task
