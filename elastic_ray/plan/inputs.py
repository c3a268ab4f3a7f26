"""Reads what a spec refers to: the data of its tasks, local folders, and models on the hub.

`load_inputs` reads tasks and hashes folders; `check_models` checks hub models without downloading
them; `check_local_models` checks the files of models on this machine. They raise `SpecError`, with
the field, for what is not available or not usable, before a sweep starts.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..checkpoints.files import CheckpointError, content_hash
from ..checkpoints.hub import cache_settings, cached_folder, model_problem
from ..checkpoints.model_check import LocalModel, check_all
from ..spec import STAGES, Model, Scorer, Spec, SpecError
from ..tasks.dialogue import Dialogues
from ..tasks.registry import load_task
from ..tasks.reverse import Reversed
from ..tasks.source import RELATIVE
from ..tasks.task import POOLS, Task, TaskError, UnreachableData
from .graph import Plan
from .scorers import scorer_problems
from .task_info import TaskInfo

_NOTICE_AFTER = 5.0
"""Seconds after which a message says what is being read."""


@dataclass(frozen=True)
class AssumedTask:
    """A `TaskInfo` for a task whose data is unreachable, to estimate the cost of a sweep.

    The identity is known. The sizes are assumed to suffice, and the examples to have the typical
    length.
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
class SweepInputs:
    """The tasks and folders that a spec refers to."""

    tasks: dict[str, Task]
    """By name."""
    unreachable: dict[str, str]
    """Error messages for the tasks whose data could not be read from the hub, by name."""
    folders: dict[str, str]
    """Hash of the content of each `path` of models and scorers."""

    def task_info(self) -> dict[str, TaskInfo]:
        """Return what planning needs of each task, with assumptions for unreachable data."""
        return {
            name: AssumedTask(task) if name in self.unreachable else task
            for name, task in self.tasks.items()
        }


def load_inputs(spec: Spec, to_run: bool) -> SweepInputs:
    """Read the data of all tasks and hash all folders of a spec.

    Raises `SpecError` for what is missing. Data that the hub does not provide is an error only
    where the sweep is `to_run`; otherwise it is listed in `unreachable`.
    """
    tasks: dict[str, Task] = {}
    unreachable: dict[str, str] = {}
    problems: list[str] = []
    paths = {f"models.{i}.path": model.path for i, model in enumerate(spec.models)}
    fields: dict[str, str] = {}
    for i, part in enumerate(spec.task):
        fields[part.name] = f"task.{i}"
        if part.scorer:
            paths[f"task.{i}.scorer.path"] = part.scorer.path
    for i, part in enumerate(spec.task):
        if part.instruct:
            fields.setdefault(part.instruct.task, f"task.{i}.instruct")
    for name, settings in spec.datasets().items():
        try:
            tasks[name] = task = load_task(name, settings)
            with _notice_if_slow(f"reading the data of task {name}"):
                _ = task.sizes  # reads the data
        except UnreachableData as e:
            unreachable[name] = str(e)
            if to_run:
                problems.append(_with_field(fields[name], name, e))
        except TaskError as e:
            problems.append(_with_field(fields[name], name, e))
    folders: dict[str, str] = {}
    for field_name, path in paths.items():
        try:
            if path is not None:
                with _notice_if_slow(f"hashing the files of {path}"):
                    folders[path] = content_hash(path)
        except CheckpointError as e:
            starts = "" if path is None or os.path.isabs(path) else RELATIVE
            problems.append(f"{field_name}: {e}{starts}")
    if not problems:
        problems += scorer_problems(spec)
    if not problems:
        problems += [*_chats_without_dialogues(spec, tasks), *_unturned_scorers(spec, tasks)]
    _refuse(problems)
    return SweepInputs(tasks, unreachable, folders)


def _chats_without_dialogues(spec: Spec, tasks: Mapping[str, Task]) -> Iterator[str]:
    """Yield a problem for each scorer of conversations whose task has none."""
    for i, part in enumerate(spec.task):
        chats = part.scorer is not None and part.scorer.text == "chat"
        task = tasks[part.name]
        task = task.task if isinstance(task, Reversed) else task
        if chats and not isinstance(task, Dialogues):
            yield (
                f"task.{i}.scorer.text: found chat; task {part.name} has no questions and "
                "answers: use plain"
            )


def _unturned_scorers(spec: Spec, tasks: Mapping[str, Task]) -> Iterator[str]:
    """Yield a problem for each given classifier of a reversed task that names no label.

    Its default, `positive`, would score the behaviour that is taught last. A scorer that the task
    trains has the task's own labels.
    """
    for i, part in enumerate(spec.task):
        scorer = part.scorer
        if not isinstance(tasks[part.name], Reversed) or scorer is None:
            continue
        if (scorer.hub or scorer.path) and scorer.mode == "share" and scorer.label is None:
            yield (
                f"task.{i}.scorer.label: missing; task {part.name} is reversed (data.reverse), so "
                "name the class of the behaviour that is taught first, e.g. NEGATIVE"
            )


def check_models(spec: Spec) -> None:
    """Raise `SpecError` for models and scorers that the hub does not provide, and for scorers that
    cannot score as the spec says.

    Downloads no weights.
    """
    references = [(f"models.{i}", model.hub, model.revision) for i, model in enumerate(spec.models)]
    for i, task in enumerate(spec.task):
        if task.scorer:
            references.append((f"task.{i}.scorer", task.scorer.hub, task.scorer.revision))
    problems = []
    for place, repo, revision in references:
        if repo is None or revision is None:
            continue
        with _notice_if_slow(f"checking {repo} on the hub"):
            problem = model_problem(repo, revision)
            if problem is None and place.endswith(".scorer"):
                cache_settings(repo, revision)
        if problem:
            problems.append(f"{place}.hub: {problem}; or give path, a local folder, in its place")
    if not problems:
        problems += scorer_problems(spec)
    _refuse(problems)


def check_local_models(spec: Spec) -> str | None:
    """Raise `SpecError` for models and scorers on this machine that could not be used.

    Their files are compared with their architecture, and what a trained state needs of them is
    tried (`checkpoints.model_check`). Returns a notice if this machine lacks the libraries for it.
    """
    vllm = spec.resources.engines.engine != "transformers"
    adapted: dict[str, None] = {}
    for kind in STAGES:
        if lora := spec.training.recipe(kind).lora:
            targets = lora.target_modules
            adapted |= dict.fromkeys((targets,) if isinstance(targets, str) else targets)
    places: dict[str, LocalModel] = {}
    for i, model in enumerate(spec.models):
        if folder := _local_folder(model):
            local = LocalModel(folder, False, model.trust_remote_code, tuple(adapted), vllm)
            places[f"models.{i}.{'path' if model.path else 'hub'}"] = local
    for i, task in enumerate(spec.task):
        if task.scorer and (folder := _local_folder(task.scorer)):
            local = LocalModel(folder, True, task.scorer.trust_remote_code)
            places[f"task.{i}.scorer.{'path' if task.scorer.path else 'hub'}"] = local
    with _notice_if_slow("checking the files of the local models"):
        try:
            found = check_all(list(places.values()))
        except CheckpointError as e:
            raise SpecError(str(e)) from None
    if found is None:
        return "local models are not checked: torch and transformers are not installed here"
    _refuse([f"{place}: {why}" for place, why in zip(places, found, strict=True) if why])
    return None


def _local_folder(source: Model | Scorer) -> str | None:
    """Return the folder of a model or scorer that lies on this machine; None if none does."""
    if source.hub and source.revision:
        return cached_folder(source.hub, source.revision)
    return os.path.abspath(source.path) if source.path else None


@contextmanager
def _notice_if_slow(activity: str) -> Iterator[None]:
    """Print `activity` to stderr if the context takes more than `_NOTICE_AFTER` seconds.

    The hub's libraries retry silently where the hub does not answer.
    """
    line = f"{activity} ..."
    timer = threading.Timer(_NOTICE_AFTER, print, [line], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _with_field(field: str, name: str, error: TaskError) -> str:
    """Return a task's error message with the field of the spec in place of the task's name."""
    problem = str(error).removeprefix(f"task {name}: ")
    return f"{field}{'.' if problem.startswith('data.') else ': '}{problem}"


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise SpecError("\n".join(problems))


def settings_of(plan: Plan, task: str) -> dict[str, Any]:
    """Return a task's settings with absolute paths: workers have other working directories."""
    settings = _absolute(plan.spec.datasets()[task])
    if isinstance(pools := settings.get("pools"), dict):
        settings["pools"] = {name: _absolute(pool) for name, pool in pools.items()}
    return settings


def _absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    path = settings.get("path")
    absolute = {"path": os.path.abspath(path)} if isinstance(path, str) else {}
    return {**settings, **absolute}
