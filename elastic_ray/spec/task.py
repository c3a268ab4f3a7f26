"""What the models are taught and asked, and what judges them."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from .part import GRID, IDENTITY, RUNTIME, Count, Counts, Name, Part, Seed, refuse


class Scorer(Part):
    """What scores an answer. Without `hub` or `path`, a small classifier is trained on the task."""

    name: Name = Field("sentiment", json_schema_extra=IDENTITY)
    mode: Literal["share", "mean"] = Field("share", json_schema_extra=IDENTITY)
    """`share`: 1 where the classifier calls the answer aligned, else 0; `mean`: its raw value."""
    hub: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+$", json_schema_extra=IDENTITY)
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$", json_schema_extra=IDENTITY)
    path: str | None = Field(None, min_length=1, json_schema_extra=RUNTIME)
    label: int = Field(1, ge=0, json_schema_extra=IDENTITY)
    """The class that counts as aligned."""
    sign: Literal[1, -1] = Field(1, json_schema_extra=IDENTITY)
    """-1 where a larger raw value means less aligned (a cost)."""
    trust_remote_code: bool = Field(False, json_schema_extra=RUNTIME)

    @model_validator(mode="after")
    def _one_source(self) -> Scorer:
        problems = []
        if self.hub and self.path:
            problems.append("give hub or path, not both")
        if bool(self.hub) != bool(self.revision):
            problems.append("hub and revision (a full commit id) go together")
        if self.mode == "share" and self.sign == -1:
            problems.append("sign -1 is for mode mean; for share choose the aligned label")
        refuse(problems)
        return self


def _finite(data: dict[str, Any]) -> dict[str, Any]:
    """The settings, or `ValueError` for NaN and infinity: they have no stable form."""
    for key, value in data.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"found {value} for {key!r}; must be a finite number")
    return data


Settings = Annotated[dict[str, Any], AfterValidator(_finite)]


class Instruct(Part):
    """What every model is taught before a task: positive examples of another one, once, whatever
    the seed. The base line is what comes of it."""

    task: Name = Field(json_schema_extra=IDENTITY)
    data: Settings = Field(default_factory=dict, json_schema_extra=IDENTITY)
    """Its settings; of a task that the sweep has itself, those that stand there."""
    examples: Count = Field(json_schema_extra=IDENTITY)
    seed: Seed = Field(0, json_schema_extra=IDENTITY)
    """Of their order."""


class Task(Part):
    """What the models are taught and asked, and what judges them."""

    name: Name = Field(json_schema_extra=IDENTITY)
    data: Settings = Field(default_factory=dict, json_schema_extra=IDENTITY)
    """The task's own settings; what they mean, and their content hash, is the task's to say."""
    instruct: Instruct | None = Field(None, json_schema_extra=IDENTITY)
    positive: Counts | None = Field(None, min_length=1, json_schema_extra=GRID)
    """This task's own sizes, in place of the sweep's."""
    scorer: Scorer | None = Field(default_factory=Scorer, json_schema_extra=IDENTITY)
    """None (`scorer: none`) where answers are recorded, but not judged."""
