"""What a spec names outside itself: its tasks' data, folders, and models on the hub.

Whatever is not there is a `SpecError` that names the field, before anything starts.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..checkpoints.files import CheckpointError, content_hash
from ..checkpoints.hub import model_problem
from ..spec import Spec, SpecError
from ..tasks.registry import load_task
from ..tasks.task import POOLS, Task, TaskError, Unreachable
from .graph import Plan
from .task_info import TaskInfo

SLOW = 5.0
"""Seconds after which it is said what is being waited for."""


@dataclass(frozen=True)
class Unread:
    """What is taken for the facts of a task whose data cannot be reached, to price a sweep.

    Its identity is known; its sizes are taken to be enough, its examples of the usual length.
    """

    task: Task
    sizes: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys((*POOLS, "prompts"), sys.maxsize)
    )

    @property
    def identity(self) -> dict[str, Any]:
        return self.task.identity

    @property
    def mean_tokens(self) -> float:
        return self.task.typical_tokens

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        return self.task.tokenizer_identity(vocab_size)


@dataclass(frozen=True)
class Sources:
    """The tasks by name; why the data of some cannot be reached; the hash of every folder."""

    tasks: dict[str, Task]
    unreached: dict[str, str]
    folders: dict[str, str]

    def facts(self) -> dict[str, TaskInfo]:
        """What planning needs of the tasks, whether or not their data was reached."""
        return {n: Unread(t) if n in self.unreached else t for n, t in self.tasks.items()}


def find(spec: Spec, to_run: bool) -> Sources:
    """The tasks, their data read, and the folders of a spec; `SpecError` for what is not there.

    Unless it is `to_run`, a data set that the hub does not give is noted in `unreached` only.
    """
    tasks: dict[str, Task] = {}
    unreached: dict[str, str] = {}
    problems: list[str] = []
    paths = {f"models.{i}.path": model.path for i, model in enumerate(spec.models)}
    fields: dict[str, str] = {}
    for i, asked in enumerate(spec.task):
        fields[asked.name] = f"task.{i}"
        if asked.scorer:
            paths[f"task.{i}.scorer.path"] = asked.scorer.path
    for i, asked in enumerate(spec.task):
        if asked.instruct:
            fields.setdefault(asked.instruct.task, f"task.{i}.instruct")
    for name, settings in spec.datasets().items():
        try:
            tasks[name] = task = load_task(name, settings)
            with _said_if_slow(f"reading the data of task {name}"):
                _ = task.sizes
        except Unreachable as e:
            unreached[name] = str(e)
            if to_run:
                problems.append(_placed(fields[name], name, e))
        except TaskError as e:
            problems.append(_placed(fields[name], name, e))
    folders: dict[str, str] = {}
    for name, path in paths.items():
        try:
            if path is not None:
                with _said_if_slow(f"hashing the files of {path}"):
                    folders[path] = content_hash(path)
        except CheckpointError as e:
            problems.append(f"{name}: {e}")
    _refuse(problems)
    return Sources(tasks, unreached, folders)


def check_models(spec: Spec) -> None:
    """`SpecError` for the models and scorers of the hub that cannot be had; downloads none."""
    named = [(f"models.{i}", model.hub, model.revision) for i, model in enumerate(spec.models)]
    for i, task in enumerate(spec.task):
        if task.scorer:
            named.append((f"task.{i}.scorer", task.scorer.hub, task.scorer.revision))
    problems = []
    for place, repo, revision in named:
        if repo is None or revision is None:
            continue
        with _said_if_slow(f"asking for {repo}"):
            why = model_problem(repo, revision)
        if why:
            # A mapping is set whole: a path beside the hub's id would be refused.
            problems.append(f"{place}.hub: {why}; or give path, a local folder, in its place")
    _refuse(problems)


@contextmanager
def _said_if_slow(what: str) -> Iterator[None]:
    """The hub's libraries ask again and again, silently, where it does not answer."""
    line = f"{what} ..."
    timer = threading.Timer(SLOW, print, [line], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _placed(field: str, name: str, error: TaskError) -> str:
    problem = str(error).removeprefix(f"task {name}: ")
    return f"{field}{'.' if problem.startswith('data.') else ': '}{problem}"


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise SpecError("\n".join(problems))


def settings_of(plan: Plan, task: str) -> dict[str, Any]:
    """A task's settings for another process: Ray's workers have other working directories."""
    settings = dict(plan.spec.datasets()[task])
    if isinstance(settings.get("path"), str):
        settings["path"] = os.path.abspath(settings["path"])
    return settings
