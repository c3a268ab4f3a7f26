"""Reading a sweep file: YAML, `--set path=value`, and errors that say where.

`load_spec(path, overrides)` gives a frozen `Spec` or raises `SpecError`, whose message names the
file and line, the field, what was found and what is allowed; every problem is listed, not only the
first. `placed` gives the errors of later rooms (the data holds fewer examples, the cluster has too
few CPUs) their lines in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .short_forms import expand
from .spec import (
    STAGES,
    CodeLength,
    Generation,
    Init,
    Instruct,
    Lessons,
    Lora,
    Model,
    Part,
    Probes,
    Recipe,
    Resources,
    Runtime,
    Scorer,
    Serving,
    Spec,
    SpecError,
    Task,
)
from .yaml_source import Source, YamlError, parse, read_source


def read_yaml(path: str | Path) -> Source:
    """The file's mapping, or `SpecError` naming the file and, where YAML says it, the line."""
    try:
        source = read_source(path)
    except OSError as e:
        raise SpecError(f"{path}: cannot be read: {e.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a text file in UTF-8") from None
    except YamlError as e:
        line = f":{e.line}" if e.line else ""
        raise SpecError(f"{path}{line}: not valid YAML: {e}") from None
    if not isinstance(source.data, dict):
        raise SpecError(f"{path}: found {unlike(source.data)}; a sweep file is a mapping")
    return source


def override(data: Any, text: str) -> tuple[Any, str]:
    """`data` with one `path=value` set, and the path with its lists' places as numbers.

    The path is dotted; a list's elements are numbered, or called by their names. The value is read
    as YAML: `seeds=[0,1]`, `training.learning_rate=1e-3`, `models.tiny.init.layers=3`. A short form
    on the way (`task: imdb`) is written out.
    """
    path, equals, value = text.partition("=")
    shown = _on_one_line(text)
    steps = [step.strip() for step in path.split(".")]
    if not equals or not all(steps):
        raise SpecError(f"--set {shown}: give PATH=VALUE, e.g. training.learning_rate=1e-3")
    try:
        parsed, _ = parse(value)
    except YamlError as e:
        raise SpecError(f"--set {shown}: the value is not valid YAML: {e}") from None
    place: list[str] = []
    return _put(data, steps, parsed, shown, place), ".".join(place)


def _put(data: Any, path: list[str], value: Any, shown: str, place: list[str]) -> Any:
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(data, list):
        at = _index(data, first, shown)
        place.append(str(at))
        return [_put(e, rest, value, shown, place) if i == at else e for i, e in enumerate(data)]
    place.append(first)
    if isinstance(data, str):  # `task: imdb` on the way to task.data.path
        data = {"name": data}
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise SpecError(f"--set {shown}: {first!r} lies below a plain value, {unlike(data)}")
    return {**data, first: _put(data.get(first), rest, value, shown, place)}


def _index(elements: list[Any], wanted: str, shown: str) -> int:
    """The place of a list's element that is called by its number or its name."""
    if wanted.isdecimal() and int(wanted) < len(elements):
        return int(wanted)
    named = [e.get("name") if isinstance(e, dict) else e for e in elements]
    names = {name: i for i, name in enumerate(named) if isinstance(name, str)}
    if wanted in names:
        return names[wanted]
    raise SpecError(
        f"--set {shown}: {wanted!r} is neither a place from 0 to {len(elements) - 1} "
        f"nor one of the names {_on_one_line(', '.join(names)) or '(none)'}{_meant(wanted, names)}"
    )


def _on_one_line(text: str) -> str:
    shown = text if text.isprintable() else repr(text)[1:-1]
    return shown if len(shown) <= 100 else shown[:97] + "..."


def unlike(value: Any) -> str:
    """A value and what it is, for an error: 'abc' (text), 3 (a whole number)."""
    kinds = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
    kinds |= {list: "a list", dict: "a mapping", type(None): "nothing"}
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"{shown} ({kinds.get(type(value), type(value).__name__)})"


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """The sweep file at `path`, with `path=value` overrides, or `SpecError`."""
    file = _Overridden.read(path, overrides)
    try:
        as_json = json.dumps(expand(file.data))
        return Spec.model_validate_json(as_json, strict=True)
    except ValidationError as e:
        errors = e.errors()
        # A list whose elements are wrong is reported as empty too; that says nothing.
        inner = {
            error["loc"][:-1][:depth] for error in errors for depth in range(len(error["loc"]))
        }
        lines = [
            line
            for error in errors
            if not (error["type"] == "too_short" and error["input"] and error["loc"] in inner)
            for line in _told(file, error)
        ]
        raise SpecError("\n".join(dict.fromkeys(lines))) from None


def placed(error: SpecError, path: str | Path, overrides: Sequence[str] = ()) -> SpecError:
    """An error about the fields of a spec that was loaded, each line with the field's place."""
    try:
        file = _Overridden.read(path, overrides)
    except SpecError:  # a pipe is read once, and a file may have gone
        return error
    lines = [_line(file, [], line) for line in str(error).splitlines()]
    return SpecError("\n".join(lines))


@dataclass(frozen=True)
class _Overridden:
    """A file, its data with the overrides, and the fields that those set."""

    source: Source
    data: dict[str, Any]
    fields: tuple[str, ...]

    @staticmethod
    def read(path: str | Path, overrides: Sequence[str]) -> _Overridden:
        source = read_yaml(path)
        data, fields, problems = source.data, [], []
        for text in overrides:
            try:
                data, field = override(data, text)
                fields.append(field)
            except SpecError as e:
                problems.append(str(e))
        if problems:
            raise SpecError("\n".join(problems))
        return _Overridden(source, data, tuple(fields))

    def place(self, loc: Sequence[str]) -> str:
        """Where the field was given: `file:line`, or `--set`."""
        given = [".".join(loc[: i + 1]) for i in range(len(loc))]
        if any(field in given for field in self.fields):
            return "--set"
        below = tuple(f"{name}." for name in given)
        if any(field.startswith(below) for field in self.fields) and not self.source.has(loc):
            return "--set"  # it made a mapping that the file does not have
        return self.source.place(loc)


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


def _meant(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    near = get_close_matches(word, sorted(known), n=1, cutoff=cutoff)
    return f" (did you mean {near[0]!r}?)" if near else ""
