"""A sweep file as a whole."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from .model import Model
from .part import GRID, IDENTITY, RUNTIME, Counts, Name, Part, Seed, ascending, refuse
from .probes import Generation, Lessons, Probes
from .resources import Resources
from .task import Task
from .training import STAGES, Recipe, Runtime, Training


def _each_once(parts: tuple[Model, ...] | tuple[Task, ...]) -> Any:
    names = [part.name for part in parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"found {twice[0]!r} more than once; each name once")
    return parts


def _some_above_zero(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if sizes and not any(sizes):
        raise ValueError("found [0]; at least one size above 0 is needed for a curve")
    return sizes


class Spec(Part):
    """A sweep: the grid models x pretrain x positive x negative x seeds, and how it is measured."""

    sweep: Name = Field(json_schema_extra=GRID)
    task: Annotated[tuple[Task, ...], AfterValidator(_each_once)] = Field(
        min_length=1, json_schema_extra=IDENTITY
    )
    models: Annotated[tuple[Model, ...], AfterValidator(_each_once)] = Field(
        min_length=1, json_schema_extra=GRID
    )
    positive: Counts = Field(min_length=1, json_schema_extra=GRID)
    """Examples of the aligning stage; the base line (0, 0) is always measured."""
    negative: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        AfterValidator(ascending),
        AfterValidator(_some_above_zero),
    ] = Field((), json_schema_extra=GRID)
    """Examples of the contrary stage; 0, the start of the curve, is always measured. Only a sweep
    of lessons may leave them out."""
    lessons: Lessons | None = Field(None, json_schema_extra=IDENTITY)
    seeds: Annotated[tuple[Seed, ...], AfterValidator(ascending)] = Field(
        (0,), min_length=1, json_schema_extra=GRID
    )
    training: Training = Field(
        default_factory=lambda: Training(**{kind: Recipe() for kind in STAGES}, runtime=Runtime()),
        json_schema_extra=IDENTITY,
    )
    generation: Generation = Field(default_factory=Generation, json_schema_extra=IDENTITY)
    probes: Probes = Field(default_factory=Probes, json_schema_extra=IDENTITY)
    resources: Resources = Field(default_factory=Resources, json_schema_extra=RUNTIME)
    keep: Literal["all", "none", "base"] = Field("base", json_schema_extra=RUNTIME)
    """Checkpoints left at the end: all, none, or the pre-trained ones; and those that another sweep
    on the same results keeps."""

    @model_validator(mode="after")
    def _trust(self) -> Spec:
        """One checkpoint is trusted or not, whatever it is called."""
        trusted: dict[tuple[str | None, ...], tuple[int, bool]] = {}
        problems = []
        for i, model in enumerate(self.models):
            if model.init is None:
                source = (model.hub, model.revision, model.path)
                first, trust = trusted.setdefault(source, (i, model.trust_remote_code))
                if trust != model.trust_remote_code:
                    problems.append(
                        f"models.{i}.trust_remote_code: found {model.trust_remote_code}; of the "
                        f"same checkpoint models.{first} says {trust}"
                    )
        refuse(problems)
        return self

    @model_validator(mode="after")
    def _lengths(self) -> Spec:
        """Texts and answers fit the models: a longer one would fail hours into the sweep."""
        context, answer = self.resources.engines.context, self.generation.max_tokens
        problems = []
        if answer >= context:
            problems.append(
                f"generation.max_tokens: found {answer}; must be below resources.engines.context, "
                f"{context}, which holds the prompt too"
            )
        measured = self.probes.code_length
        if measured and measured.window >= context:
            problems.append(
                f"probes.code_length.window: found {measured.window}; must be below "
                f"resources.engines.context, {context}"
            )
        for i, model in enumerate(self.models):
            if model.init is None:
                continue
            held = model.init.positions
            wanted = [("resources.engines.context", context)]
            wanted += [
                (f"training.{kind}.max_length", self.training.recipe(kind).max_length)
                for kind in STAGES
            ]
            problems += [
                f"{field}: found {length}; models.{i}.init.positions is {held}, at most so many"
                for field, length in wanted
                if length > held
            ]
        refuse(problems)
        return self

    @model_validator(mode="after")
    def _curves_or_lessons(self) -> Spec:
        """There is something to measure, and what is named is there."""
        problems = []
        if not self.negative and self.lessons is None:
            problems.append("negative: missing; a sweep needs negative sizes, or lessons")
        most = min(len(self.positive_sizes(task)) for task in self.task)
        for lower, upper in self.lessons.pairs if self.lessons else ():
            if upper > most:
                problems.append(
                    f"lessons.pairs: found [{lower}, {upper}]; there are {most} positive "
                    "sizes, numbered from 1"
                )
        data: dict[str, tuple[str, dict[str, Any]]] = {
            task.name: (f"task.{i}", task.data) for i, task in enumerate(self.task)
        }
        for i, task in enumerate(self.task):
            if task.instruct is None:
                continue
            field = f"task.{i}.instruct"
            known, settings = data.setdefault(task.instruct.task, (field, task.instruct.data))
            if task.instruct.data and task.instruct.data != settings:
                problems.append(
                    f"{field}.data: found settings other than those of {known}, which is "
                    f"{task.instruct.task} too; give them there only"
                )
        refuse(problems)
        return self

    def positive_sizes(self, task: Task) -> tuple[int, ...]:
        """The positive sizes of that task."""
        return self.positive if task.positive is None else task.positive

    def datasets(self) -> dict[str, dict[str, Any]]:
        """The settings of every task that something is learnt from, by name: the sweep's own tasks
        first."""
        found = {task.name: task.data for task in self.task}
        for task in self.task:
            if task.instruct is not None:
                found.setdefault(task.instruct.task, task.instruct.data)
        return found

    def curve_sizes(self) -> tuple[int, ...]:
        """The negative sizes of every curve, 0 first."""
        return tuple(sorted({0, *self.negative}))
