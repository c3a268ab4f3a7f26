"""Schema of a sweep file as a whole, with the checks that concern several of its parts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from .model import Model
from .part import GRID, IDENTITY, RUNTIME, Counts, Name, Part, Seed, ascending, refuse
from .probes import Generation, Lessons, Measures, Probes
from .resources import Resources
from .task import Task
from .training import STAGES, Recipe, Runtime, Training


def _unique_names(parts: tuple[Model, ...] | tuple[Task, ...]) -> Any:
    names = [part.name for part in parts]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"found {duplicates[0]!r} more than once; each name once")
    return parts


def _some_above_zero(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if sizes and not any(sizes):
        raise ValueError("found [0]; at least one size above 0 is needed for a curve")
    return sizes


class Spec(Part):
    """A sweep: the grid models x pretrain x positive x negative x seeds, and how it is measured."""

    sweep: Name = Field(json_schema_extra=GRID)
    """Name of the sweep in the results."""
    task: Annotated[tuple[Task, ...], AfterValidator(_unique_names)] = Field(
        min_length=1, json_schema_extra=IDENTITY
    )
    """The tasks: what the models are trained on and asked. Each is a grid of its own."""
    models: Annotated[tuple[Model, ...], AfterValidator(_unique_names)] = Field(
        min_length=1, json_schema_extra=GRID
    )
    """The models whose elasticity is measured."""
    positive: Counts = Field(min_length=1, json_schema_extra=GRID)
    """Numbers of examples of the aligning stage, ascending. The baseline (0, 0) is always
    measured."""
    negative: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        AfterValidator(ascending),
        AfterValidator(_some_above_zero),
    ] = Field((), json_schema_extra=GRID)
    """Numbers of examples of the contrary stage, ascending. 0, the start of the curve, is always
    measured. Only a sweep with `lessons` may leave them out."""
    lessons: Lessons | None = Field(None, json_schema_extra=IDENTITY)
    """States trained on other states' answers (the inverse-versus-forward experiment). Default:
    none."""
    seeds: Annotated[tuple[Seed, ...], AfterValidator(ascending)] = Field(
        (0,), min_length=1, json_schema_extra=GRID
    )
    """Seeds of the choice and order of the fine-tuning examples, ascending."""
    training: Training = Field(
        default_factory=lambda: Training(**{kind: Recipe() for kind in STAGES}, runtime=Runtime()),
        json_schema_extra=IDENTITY,
    )
    """The training recipes and how training is executed."""
    generation: Generation = Field(default_factory=Generation, json_schema_extra=IDENTITY)
    """How answers are sampled."""
    probes: Probes = Field(default_factory=Probes, json_schema_extra=IDENTITY)
    """What is measured of every state besides its answers."""
    measures: Measures = Field(default_factory=Measures, json_schema_extra=RUNTIME)
    """How the recorded scores are measured."""
    resources: Resources = Field(default_factory=Resources, json_schema_extra=RUNTIME)
    """What the sweep may use of the cluster."""
    keep: Literal["all", "none", "base"] = Field("base", json_schema_extra=RUNTIME)
    """Checkpoints kept at the end: all, none, or those of the baselines (`base`). Checkpoints that
    another sweep on the same results keeps are never deleted."""

    @model_validator(mode="after")
    def _consistent_trust(self) -> Spec:
        """Check that `trust_remote_code` is the same for models with one checkpoint."""
        trusted: dict[tuple[str | None, ...], tuple[int, bool]] = {}
        problems = []
        for i, model in enumerate(self.models):
            if model.init is None:
                source = (model.hub, model.revision, model.path)
                first, trust = trusted.setdefault(source, (i, model.trust_remote_code))
                if trust != model.trust_remote_code:
                    problems.append(
                        f"models.{i}.trust_remote_code: found {model.trust_remote_code}; "
                        f"models.{first} has the same checkpoint with {trust}"
                    )
        refuse(problems)
        return self

    @model_validator(mode="after")
    def _model_runtimes(self) -> Spec:
        """Check each model's own runtime together with what it takes over from `training`."""
        problems = []
        for i, model in enumerate(self.models):
            try:
                self.training.runtime.of_model(model.runtime)
            except ValidationError as e:
                reason = e.errors()[0]["msg"].removeprefix("Value error, ")
                problems.append(f"models.{i}.runtime.{reason}")
        refuse(problems)
        return self

    @model_validator(mode="after")
    def _lengths_fit(self) -> Spec:
        """Check that texts and answers fit the models; a longer one would fail hours later."""
        context, answer = self.resources.engines.context, self.generation.max_tokens
        problems = []
        if answer >= context:
            problems.append(
                f"generation.max_tokens: found {answer}; must be below resources.engines.context, "
                f"{context}, which holds the prompt too"
            )
        code_length = self.probes.code_length
        if code_length and code_length.window >= context:
            problems.append(
                f"probes.code_length.window: found {code_length.window}; must be below "
                f"resources.engines.context, {context}"
            )
        for i, model in enumerate(self.models):
            if model.init is None:
                continue
            limit = model.init.positions
            lengths = [("resources.engines.context", context)]
            lengths += [
                (f"training.{kind}.max_length", self.training.recipe(kind).max_length)
                for kind in STAGES
            ]
            problems += [
                f"{field}: found {length}; must be at most models.{i}.init.positions, {limit}"
                for field, length in lengths
                if length > limit
            ]
        refuse(problems)
        return self

    @model_validator(mode="after")
    def _curves_or_lessons(self) -> Spec:
        """Check that there is something to measure and that references between fields resolve."""
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
            first, settings = data.setdefault(task.instruct.task, (field, task.instruct.data))
            if task.instruct.data and task.instruct.data != settings:
                problems.append(
                    f"{field}.data: found settings that differ from those of {first}, which "
                    f"also reads {task.instruct.task}; give them there only"
                )
        refuse(problems)
        return self

    def positive_sizes(self, task: Task) -> tuple[int, ...]:
        """Return the positive sizes of a task: its own, or else the sweep's."""
        return self.positive if task.positive is None else task.positive

    def datasets(self) -> dict[str, dict[str, Any]]:
        """Return the settings of every task whose data is read, by name.

        The sweep's own tasks come first, then those of `instruct`.
        """
        settings = {task.name: task.data for task in self.task}
        for task in self.task:
            if task.instruct is not None:
                settings.setdefault(task.instruct.task, task.instruct.data)
        return settings

    def curve_sizes(self) -> tuple[int, ...]:
        """Return the negative sizes of every curve, ascending, with 0."""
        return tuple(sorted({0, *self.negative}))
