"""Error messages for sweep files: what was found, where, and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .model import Init, Model
from .overrides import _meant, _on_one_line, _Overridden, unlike
from .part import Part
from .probes import CodeLength, Generation, Lessons, Probes
from .resources import Resources, Serving
from .spec import Spec
from .task import Instruct, Scorer, Task
from .training import STAGES, Lora, Recipe, Runtime

_KNOWN: Mapping[str, type[Part]] = {
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


_FORMS = {
    "sweep": "letters, digits, dots, dashes and underscores, 64 at most",
    "name": "letters, digits, dots, dashes and underscores, 64 at most",
    "hub": "OWNER/NAME",
    "revision": "a full commit id of 40 hex digits: a branch moves",
}
"""In words, what the patterns of these fields allow."""


def _told(file: _Overridden, error: Any) -> list[str]:
    """A line for each of the error's problems: where, what was found, what is allowed."""
    loc = _as_written([str(part) for part in error["loc"]], file.data)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return [_line(file, loc, line) for line in message.splitlines()]
    place, field = file.place(loc), _on_one_line(".".join(loc))
    if not loc:
        return [f"{place}: {_plain(message)}"]
    if error["type"] == "extra_forbidden":
        return [f"{place}: {field}: unknown key {loc[-1]!r}{_nearest(loc)}"]
    if error["type"] == "missing":
        return [f"{place}: {field}: missing; it is required"]
    allowed = _plain(message)
    if error["type"] == "string_pattern_mismatch":
        allowed = f"must be {_FORMS.get(loc[-1], message)}"
    return [f"{place}: {field}: found {unlike(error['input'])}; {allowed}"]


def _line(file: _Overridden, loc: Sequence[str], text: str) -> str:
    """A problem of the field at `loc`, or of the field whose path the text begins with."""
    field, colon, rest = text.partition(": ")
    inner = field.split(".")
    if colon and " " not in field and inner[0] in Spec.model_fields:
        loc, text = _as_written(inner, file.data), rest
    field = _on_one_line(".".join(loc))
    return f"{file.place(loc)}: {field}: {text}" if field else f"{file.place(loc)}: {text}"


def _as_written(loc: list[str], data: Mapping[str, Any]) -> list[str]:
    """The field as the sweep file has it: short forms were written out before the schema saw it."""
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


def _plain(message: str) -> str:
    """pydantic's message in the words of YAML."""
    message = message[:1].lower() + message[1:]
    for theirs, ours in (
        ("a valid array", "a list"),
        ("a valid integer", "a whole number"),
        ("a valid number", "a number"),
        ("a valid string", "text"),
        ("a valid boolean", "true or false"),
        ("an object", "a mapping"),
        ("tuple should have", "a list should have"),
        (" after validation", ""),
    ):
        message = message.replace(theirs, ours)
    return message


def _flat(loc: list[str], data: Mapping[str, Any]) -> list[str]:
    """`training.positive.epochs` is written `training.epochs` unless the stage has its own."""
    given = data.get("training", {})
    if loc[1:2] == ["runtime"]:
        return ["training", *loc[2:]]
    if len(loc) > 2 and loc[1] in STAGES and isinstance(given, dict):
        own = given.get(loc[1], {})
        if isinstance(own, dict) and loc[2] not in own:
            return ["training", *loc[2:]]
    return loc


def _nearest(loc: Sequence[str]) -> str:
    parents = [part for part in loc[:-1] if not part.isdigit()]
    if parents[:1] == ["training"] and "lora" not in parents:
        known = {*Recipe.model_fields}
        if len(parents) == 1:
            known |= {*Runtime.model_fields, *STAGES}
    elif parents and parents[-1] in _KNOWN:
        known = set(_KNOWN[parents[-1]].model_fields)
    else:
        known = {*Spec.model_fields, "scorer"}
    return f"{_meant(loc[-1], known, 0.5)}; allowed: {', '.join(sorted(known))}"
