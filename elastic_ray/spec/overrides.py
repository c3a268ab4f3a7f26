"""Sweep files with `--set path=value` overrides applied, and where each field was set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .part import SpecError
from .value_text import describe_value, did_you_mean, one_line
from .yaml_lines import YamlError, YamlSource, parse, read_source


def read_yaml(path: str | Path) -> YamlSource:
    """Return the file's mapping with its lines.

    Raises `SpecError` with the file and, for invalid YAML, the line.
    """
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
        raise SpecError(f"{path}: found {describe_value(source.data)}; a sweep file is a mapping")
    return source


def override(data: Any, text: str) -> tuple[Any, str]:
    """Return `data` with one `path=value` applied, and the path with list elements by index.

    The path is dotted; list elements are given by index or by name. The value is parsed as YAML:
    `seeds=[0,1]`, `training.learning_rate=1e-3`, `models.tiny.init.layers=3`. A short form on the
    path (`task: imdb`) is written out. Raises `SpecError` if the path or value is invalid.
    """
    path, equals, value = text.partition("=")
    shown = one_line(text)
    steps = [step.strip() for step in path.split(".")]
    if not equals or not all(steps):
        raise SpecError(f"--set {shown}: give PATH=VALUE, e.g. training.learning_rate=1e-3")
    try:
        parsed, _ = parse(value)
    except YamlError as e:
        raise SpecError(f"--set {shown}: the value is not valid YAML: {e}") from None
    resolved: list[str] = []
    return _put(data, steps, parsed, shown, resolved), ".".join(resolved)


def _put(data: Any, path: list[str], value: Any, shown: str, resolved: list[str]) -> Any:
    """Return a copy of `data` with `value` at `path`; append the path's steps to `resolved`."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(data, list):
        index = _index(data, first, shown)
        resolved.append(str(index))
        return [
            _put(element, rest, value, shown, resolved) if i == index else element
            for i, element in enumerate(data)
        ]
    resolved.append(first)
    if isinstance(data, str):  # `task: imdb` on the path to task.data.path
        data = {"name": data}
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise SpecError(f"--set {shown}: {first!r} is below a plain value, {describe_value(data)}")
    return {**data, first: _put(data.get(first), rest, value, shown, resolved)}


def _index(elements: list[Any], step: str, shown: str) -> int:
    """Return the index of the list element that `step` gives by index or by name."""
    if step.isdecimal() and int(step) < len(elements):
        return int(step)
    named = [e.get("name") if isinstance(e, dict) else e for e in elements]
    names = {name: i for i, name in enumerate(named) if isinstance(name, str)}
    if step in names:
        return names[step]
    raise SpecError(
        f"--set {shown}: {step!r} is neither an index from 0 to {len(elements) - 1} "
        f"nor one of the names {one_line(', '.join(names)) or '(none)'}{did_you_mean(step, names)}"
    )


@dataclass(frozen=True)
class SweepFile:
    """A sweep file: its source, its data with overrides applied, and the fields overridden."""

    source: YamlSource
    data: dict[str, Any]
    overridden: tuple[str, ...]
    """Dotted paths, list elements by index."""

    @staticmethod
    def read(path: str | Path, overrides: Sequence[str]) -> SweepFile:
        """Return the file at `path` with `path=value` overrides applied; `SpecError` on failure."""
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
        return SweepFile(source, data, tuple(fields))

    def location(self, loc: Sequence[str]) -> str:
        """Return where the field `loc` was set: `file:line`, or `--set`."""
        prefixes = [".".join(loc[: i + 1]) for i in range(len(loc))]
        if any(field in prefixes for field in self.overridden):
            return "--set"
        below = tuple(f"{name}." for name in prefixes)
        if any(field.startswith(below) for field in self.overridden) and not self.source.has(loc):
            return "--set"  # an override created a mapping that the file does not have
        return self.source.location(loc)
