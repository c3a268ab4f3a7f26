"""Reading a sweep file: YAML, `--set path=value`, and errors that say where.

`load_spec(path, overrides)` gives a frozen `Spec` or raises `SpecError`, whose message names the
file and line, the field, what was found and what is allowed; every problem is listed, not only the
first.

Safe YAML only; a key given twice is refused, and `2e-4` is a number, as YAML 1.2 has it (PyYAML
alone reads it as text).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .spec import (
    STAGES,
    Generation,
    Init,
    Lora,
    Model,
    Part,
    Recipe,
    Resources,
    Runtime,
    Scorer,
    Serving,
    Spec,
    SpecError,
    Task,
    expand,
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, without its two surprises."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is not text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class Source:
    """A file's data, and the tree that knows its lines."""

    path: str
    data: Any
    node: yaml.Node | None

    def place(self, loc: Sequence[str]) -> str:
        """`file:line` of the field, or of the nearest part of its path that stands in the file."""
        node, line = self.node, 1 if self.node is None else self.node.start_mark.line + 1
        for part in loc:
            found = _child(node, part)
            if found is None:
                break
            key, node = found
            line = key.start_mark.line + 1
        return f"{self.path}:{line}"


def _child(node: yaml.Node | None, part: str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key, value
    if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
        return node.value[int(part)], node.value[int(part)]
    return None


def read_yaml(path: str | Path) -> Source:
    """The file's mapping, or `SpecError` naming the file and, where YAML says it, the line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as e:
        raise SpecError(f"{path}: cannot be read: {e.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a text file in UTF-8") from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        data = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(e, "problem", None) or e
        raise SpecError(f"{path}{line}: not valid YAML: {problem}") from None
    except RecursionError:
        raise SpecError(f"{path}: nested too deeply") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path}: found {unlike(data)}; a sweep file is a mapping")
    return Source(str(path), data, node)


def override(data: Any, text: str) -> Any:
    """`data` with one `path=value` set; the path is dotted, a list's elements are numbered.

    The value is read as YAML: `seeds=[0,1]`, `training.learning_rate=1e-3`,
    `task.data.path=folder`. A short form on the way (`task: imdb`) is written out.
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise SpecError(f"--set {text}: give PATH=VALUE, e.g. training.learning_rate=1e-3")
    try:
        parsed = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as e:
        raise SpecError(f"--set {text}: the value is not valid YAML: {e}") from None
    return _put(data, path.strip().split("."), parsed, text)


def _put(data: Any, path: list[str], value: Any, text: str) -> Any:
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(data, list):
        if not first.isdigit() or int(first) >= len(data):
            names = {
                e["name"]: i for i, e in enumerate(data) if isinstance(e, dict) and "name" in e
            }
            if first not in names:
                near = get_close_matches(first, names, n=1)
                meant = f" (did you mean {near[0]!r}?)" if near else ""
                raise SpecError(
                    f"--set {text}: {first!r} is neither a place from 0 to {len(data) - 1} "
                    f"nor one of the names {', '.join(names) or '(none)'}{meant}"
                )
            first = str(names[first])
        return [_put(e, rest, value, text) if i == int(first) else e for i, e in enumerate(data)]
    if isinstance(data, str):  # `task: imdb` on the way to task.data.path
        data = {"name": data}
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise SpecError(f"--set {text}: {first!r} lies below a plain value, {unlike(data)}")
    return {**data, first: _put(data.get(first), rest, value, text)}


def unlike(value: Any) -> str:
    """A value and what it is, for an error: 'abc' (text), 3 (a whole number)."""
    kinds = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
    kinds |= {list: "a list", dict: "a mapping", type(None): "nothing"}
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"{shown} ({kinds.get(type(value), type(value).__name__)})"


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """The sweep file at `path`, with `path=value` overrides, or `SpecError`."""
    source = read_yaml(path)
    data = source.data
    for text in overrides:
        data = override(data, text)
    try:
        as_json = json.dumps(expand(data))
    except TypeError as e:
        raise SpecError(f"{path}: {e}; quote dates and other special values") from None
    try:
        return Spec.model_validate_json(as_json, strict=True)
    except ValidationError as e:
        overridden = [text.partition("=")[0] for text in overrides]
        errors = e.errors()
        # A list whose elements are wrong is reported as empty too; that says nothing.
        inner = {
            error["loc"][:-1][:depth] for error in errors for depth in range(len(error["loc"]))
        }
        lines = [
            _told(source, data, overridden, error)
            for error in errors
            if not (error["type"] == "too_short" and error["input"] and error["loc"] in inner)
        ]
        raise SpecError("\n".join(dict.fromkeys(lines))) from None


_KNOWN: Mapping[str, type[Part]] = {
    "models": Model,
    "init": Init,
    "task": Task,
    "scorer": Scorer,
    "generation": Generation,
    "resources": Resources,
    "engines": Serving,
    "scorers": Serving,
    "lora": Lora,
}


def _told(source: Source, data: Any, overridden: Sequence[str], error: Any) -> str:
    """One line: where, what was found, what is allowed."""
    loc = [str(part) for part in error["loc"]]
    if loc[:1] == ["training"]:
        loc = _flat(loc, data)
    if loc[:2] == ["task", "0"] and not isinstance(data.get("task"), list):
        loc = ["task", *loc[2:]]
        if loc[1:2] == ["scorer"] and "scorer" in data:
            loc = loc[1:]
    message = error["msg"].removeprefix("Value error, ")
    if not loc and message.partition(":")[0] in Spec.model_fields:
        loc, message = [message.partition(":")[0]], message.partition(": ")[2]
    field = ".".join(loc)
    place = source.place(loc)
    if field in overridden or any(field.startswith(f"{name}.") for name in overridden):
        place = "--set"
    if error["type"] == "extra_forbidden":
        return f"{place}: {field}: unknown key {loc[-1]!r}{_nearest(loc)}"
    if error["type"] == "missing":
        return f"{place}: {field}: missing; it is required"
    if error["type"] == "value_error":
        return f"{place}: {field}: {message}" if loc else f"{place}: {message}"
    return f"{place}: {field}: found {unlike(error['input'])}; {_plain(message)}"


def _plain(message: str) -> str:
    """pydantic's message in the words of YAML."""
    for theirs, ours in (
        ("a valid array", "a list"),
        ("a valid integer", "a whole number"),
        ("a valid number", "a number"),
        ("a valid string", "text"),
        ("a valid boolean", "true or false"),
        ("an object", "a mapping"),
    ):
        message = message.replace(theirs, ours)
    return message[:1].lower() + message[1:]


def _flat(loc: list[str], data: Any) -> list[str]:
    """`training.positive.epochs` is written `training.epochs` unless the stage has its own."""
    given = data.get("training", {})
    if len(loc) > 2 and loc[1] == "runtime":
        return ["training", *loc[2:]]
    if len(loc) > 2 and loc[1] in STAGES and isinstance(given, dict):
        own = given.get(loc[1])
        if isinstance(own, dict) and loc[2] not in own:
            return ["training", *loc[2:]]
        if not isinstance(own, dict) and own is None:
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
    match = get_close_matches(loc[-1], sorted(known), n=1, cutoff=0.5)
    meant = f" (did you mean {match[0]!r}?)" if match else ""
    return f"{meant}; allowed: {', '.join(sorted(known))}"
