"""Schema of `task`: what the models learn and are asked, and what scores their answers."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .part import GRID, IDENTITY, RUNTIME, Count, Counts, Name, Part, Seed, refuse


def _label(value: Any) -> Any:
    if (type(value) is int and value >= 0) or (isinstance(value, str) and value.strip()):
        return value
    raise ValueError(f"found {value!r}; must be the name of a class, or its number from 0 on")


Label = Annotated[int | str, BeforeValidator(_label)]


class Scorer(Part):
    """A classifier that scores answers. Without `hub` or `path`, a small one is trained on the
    task."""

    name: Name = Field("sentiment", json_schema_extra=IDENTITY)
    """Name of the scorer in tables and figures."""
    mode: Literal["share", "mean"] = Field("share", json_schema_extra=IDENTITY)
    """`share`: 1 where the classifier calls the answer aligned, else 0; `mean`: its raw value."""
    hub: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+$", json_schema_extra=IDENTITY)
    """Repository id on the Hugging Face hub, OWNER/NAME; needs `revision`."""
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$", json_schema_extra=IDENTITY)
    """Full commit id of the hub repository."""
    path: str | None = Field(None, min_length=1, json_schema_extra=RUNTIME)
    """Local folder in transformers' format. Its content is the identity, not its path."""
    label: Label | None = Field(None, json_schema_extra=IDENTITY)
    """The class that counts as aligned: its name in the classifier's `id2label`, or its number.
    Default: the only output, or `positive` beside `negative`; any other classifier needs it."""
    text: Literal["plain", "chat"] | None = Field(None, json_schema_extra=IDENTITY)
    """What the scorer reads: `plain` is the task's own text of question and answer; `chat` puts
    them through the chat template of the scorer's tokenizer (tasks with dialogues only). Default:
    `plain`, refused where the tokenizer has a chat template."""
    sign: Literal[1, -1] = Field(1, json_schema_extra=IDENTITY)
    """-1 where a larger raw value means less aligned (a cost)."""
    trust_remote_code: bool = Field(False, json_schema_extra=RUNTIME)
    """Whether Python code from the scorer's repository may run."""
    allow_chance: bool = Field(False, json_schema_extra=RUNTIME)
    """Whether the sweep goes on with a trained scorer whose accuracy on held-out texts is not
    clearly better than chance."""

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
    """Return the settings; raise `ValueError` for NaN and infinity, which cannot be hashed."""
    for key, value in data.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"found {value} for {key!r}; must be a finite number")
    return data


Settings = Annotated[dict[str, Any], AfterValidator(_finite)]


class Instruct(Part):
    """Training of every model on another task before this one.

    The models are trained once, whatever the seed, on positive examples of that task. The result is
    the baseline.
    """

    task: Name = Field(json_schema_extra=IDENTITY)
    """Task that the examples come from."""
    data: Settings = Field(default_factory=dict, json_schema_extra=IDENTITY)
    """Settings of that task. Where the sweep also lists that task, the settings given there
    apply."""
    examples: Count = Field(json_schema_extra=IDENTITY)
    """Number of examples."""
    seed: Seed = Field(0, json_schema_extra=IDENTITY)
    """Seed of the choice and order of the examples."""


class Task(Part):
    """What the models are trained on and asked, and what scores their answers."""

    name: Name = Field(json_schema_extra=IDENTITY)
    """Name of a task of the package, e.g. reviews or imdb, or any other of a task whose data is
    given with `pools`."""
    data: Settings = Field(default_factory=dict, json_schema_extra=IDENTITY)
    """The task's own settings, e.g. `path` of a local folder; each task documents and checks them.
    `reverse: true` teaches the contrary behaviour first. `pools` and `template` make a task of any
    data (docs/how-to/own-data.md)."""
    instruct: Instruct | None = Field(None, json_schema_extra=IDENTITY)
    """Training on another task before this one. Default: none."""
    positive: Counts | None = Field(None, min_length=1, json_schema_extra=GRID)
    """Positive sizes of this task, in place of the sweep's."""
    scorer: Scorer | None = Field(default_factory=Scorer, json_schema_extra=IDENTITY)
    """What scores the answers; null (`scorer: none`) records answers without scoring them."""
