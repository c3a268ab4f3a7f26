"""Error messages for sweep files: where, what was found, and what is allowed.

`messages_of` rewrites an error of pydantic in the words of the sweep file as a person wrote it;
`locate_line` puts file and line before a problem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .model import Init, Model
from .overrides import SweepFile
from .part import Part
from .probes import CodeLength, Generation, Lessons, Probes
from .resources import Resources, Serving
from .spec import Spec
from .task import Instruct, Scorer, Task
from .training import STAGES, Lora, Recipe, Runtime
from .value_text import describe_value, did_you_mean, one_line

_PARTS: Mapping[str, type[Part]] = {
    "models": Model,
    "init": Init,
    "task": Task,
    "scorer": Scorer,
    "generation": Generation,
    "probes": Probes,
    "code_length": CodeLength,
    "resources": Resources,
    "engines": Serving,
    "scorers": Serving,
    "lora": Lora,
    "instruct": Instruct,
    "lessons": Lessons,
}
"""The schema of the mapping under each key."""

_PATTERNS = {
    "sweep": "letters, digits, dots, dashes and underscores, 64 at most",
    "name": "letters, digits, dots, dashes and underscores, 64 at most",
    "hub": "OWNER/NAME",
    "revision": "a full commit id of 40 hex digits: a branch moves",
}
"""What the regular expressions of these fields allow, in words."""

_YAML_WORDS = (
    ("a valid array", "a list"),
    ("a valid integer", "a whole number"),
    ("a valid number", "a number"),
    ("a valid string", "text"),
    ("a valid boolean", "true or false"),
    ("an object", "a mapping"),
    ("tuple should have", "a list should have"),
    (" after validation", ""),
)
"""Terms of pydantic's messages, and YAML's terms for them."""


def messages_of(file: SweepFile, error: Any) -> list[str]:
    """Return one line for each problem of a pydantic error: place, value found, what is allowed."""
    loc = as_written([str(part) for part in error["loc"]], file.data)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return [locate_line(file, loc, line) for line in message.splitlines()]
    place, field = file.location(loc), one_line(".".join(loc))
    if not loc:
        return [f"{place}: {_in_yaml_words(message)}"]
    if error["type"] == "extra_forbidden":
        return [f"{place}: {field}: unknown key {loc[-1]!r}{_allowed_keys(loc)}"]
    if error["type"] == "missing":
        return [f"{place}: {field}: missing; it is required"]
    allowed = _in_yaml_words(message)
    if error["type"] == "string_pattern_mismatch":
        allowed = f"must be {_PATTERNS.get(loc[-1], message)}"
    return [f"{place}: {field}: found {describe_value(error['input'])}; {allowed}"]


def locate_line(file: SweepFile, loc: Sequence[str], text: str) -> str:
    """Return the problem `text` with place and field.

    The field is `loc`, or the one whose dotted path the text begins with.
    """
    field, colon, rest = text.partition(": ")
    steps = field.split(".")
    if colon and " " not in field and steps[0] in Spec.model_fields:
        loc, text = as_written(steps, file.data), rest
    field = one_line(".".join(loc))
    return f"{file.location(loc)}: {field}: {text}" if field else f"{file.location(loc)}: {text}"


def as_written(loc: list[str], data: Mapping[str, Any]) -> list[str]:
    """Return the field's path in the file: the schema saw the short forms written out."""
    if loc[:1] == ["training"]:
        return _flat(loc, data)
    if loc[:1] == ["task"] and len(loc) > 1 and loc[1].isdecimal():
        tasks = data.get("task")
        own = tasks[int(loc[1])] if isinstance(tasks, list) else tasks
        if loc[2:3] == ["scorer"] and not (isinstance(own, dict) and "scorer" in own):
            return loc[2:]
        if not isinstance(tasks, list):
            return ["task", *loc[2:]]
    return loc


def _flat(loc: list[str], data: Mapping[str, Any]) -> list[str]:
    """Return `training.epochs` for `training.positive.epochs` unless the stage has its own."""
    given = data.get("training", {})
    if loc[1:2] == ["runtime"]:
        return ["training", *loc[2:]]
    if len(loc) > 2 and loc[1] in STAGES and isinstance(given, dict):
        own = given.get(loc[1], {})
        if isinstance(own, dict) and loc[2] not in own:
            return ["training", *loc[2:]]
    return loc


def _in_yaml_words(message: str) -> str:
    """Return pydantic's message with YAML's terms."""
    message = message[:1].lower() + message[1:]
    for term, replacement in _YAML_WORDS:
        message = message.replace(term, replacement)
    return message


def _allowed_keys(loc: Sequence[str]) -> str:
    """Return the keys allowed in place of the unknown key `loc`, the most similar one first."""
    parents = [part for part in loc[:-1] if not part.isdigit()]
    if parents[:1] == ["training"] and "lora" not in parents:
        known = {*Recipe.model_fields}
        if len(parents) == 1:
            known |= {*Runtime.model_fields, *STAGES}
    elif parents and parents[-1] in _PARTS:
        known = set(_PARTS[parents[-1]].model_fields)
    else:
        known = {*Spec.model_fields, "scorer"}
    return f"{did_you_mean(loc[-1], known, 0.5)}; allowed: {', '.join(sorted(known))}"
