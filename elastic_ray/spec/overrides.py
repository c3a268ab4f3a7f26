"""The YAML mapping of a sweep file with `--set path=value` overrides applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .part import SpecError
from .yaml_lines import Source, YamlError, parse, read_source


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


def _meant(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    near = get_close_matches(word, sorted(known), n=1, cutoff=cutoff)
    return f" (did you mean {near[0]!r}?)" if near else ""
