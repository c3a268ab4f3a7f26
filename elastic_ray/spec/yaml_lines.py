"""YAML with the lines of its fields, and without PyYAML's surprises.

Safe YAML of plain values only. A key given twice is refused, and so are keys that are not text,
tags (`!!set`), and text nested or aliased beyond any sense. As YAML 1.2 has it, `2e-4` is a number,
and a date is text, and so are `1:30` and `010` (PyYAML alone reads 90 and 8).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEEPEST = 64
MOST = 1_000_000
"""Values, each alias counted as what it stands for."""


_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")


class YamlError(ValueError):
    """The text is not the YAML that is allowed; `line` counts from 1, None where unknown."""

    def __init__(self, problem: str, line: int | None) -> None:
        super().__init__(problem)
        self.line = line


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader for plain values."""

    yaml_constructors = {  # noqa: RUF012  (a class attribute of PyYAML's)
        tag: made
        for tag, made in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in _PLAIN
    }
    yaml_implicit_resolvers = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"the key {key!r} is not text"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in seen:
                problem = f"the key {key!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


for _kind, _form, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE|yes|Yes|no|No|on|On|off|Off", "tTfFyYnNoO"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_form})$"), list(_first)
    )


@dataclass(frozen=True)
class Source:
    """A file's data, and the tree that knows its lines."""

    path: str
    data: Any
    node: yaml.Node | None

    def place(self, loc: Sequence[str]) -> str:
        """`file:line` of the field, or of the nearest part of its path that stands in the file."""
        found = self._along(loc)
        node = found[-1] if found else self.node
        return f"{self.path}:{1 if node is None else node.start_mark.line + 1}"

    def has(self, loc: Sequence[str]) -> bool:
        """Whether the field stands in the file."""
        return len(self._along(loc)) == len(loc)

    def _along(self, loc: Sequence[str]) -> list[yaml.Node]:
        """The nodes on the way to the field (of mappings, the keys), as far as the file has it."""
        node, found = self.node, []
        for part in loc:
            child = _child(node, part)
            if child is None:
                break
            key, node = child
            found.append(key)
        return found


def _child(node: yaml.Node | None, part: str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key, value
    if isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
        return node.value[int(part)], node.value[int(part)]
    return None


def read_source(path: str | Path) -> Source:
    """The file's value and lines; OSError, UnicodeDecodeError, or YamlError."""
    data, node = parse(Path(path).read_text(encoding="utf-8"))
    return Source(str(path), data, node)


def parse(text: str) -> tuple[Any, yaml.Node | None]:
    """The text's value and its tree; None and None of an empty text; `YamlError`."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        _measure(node, 0, {})
        return loader.construct_document(node), node
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        words = ", ".join(part for part in (e.context, e.problem) if part)
        raise YamlError(words, mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise YamlError(f"the character {chr(e.character)!r} is not allowed", line) from None
    except RecursionError:
        raise YamlError(f"nested deeper than {DEEPEST} levels", None) from None


def _unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _measure(node: yaml.Node, depth: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """(values, levels) of the tree; `YamlError` where either is too many."""
    line = node.start_mark.line + 1
    if depth >= DEEPEST:
        raise YamlError(f"nested deeper than {DEEPEST} levels", line)
    if id(node) not in known:
        below: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            below = node.value
        elif isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        elif not _unicode(node.value):
            raise YamlError("text with half a surrogate pair, which is no character", line)
        each = [_measure(child, depth + 1, known) for child in below]
        values = 1 + sum(many for many, _ in each)
        known[id(node)] = values, 1 + max((levels for _, levels in each), default=0)
        if values > MOST:
            raise YamlError(f"more than {MOST:,} values, aliases written out", line)
    values, levels = known[id(node)]
    if depth + levels > DEEPEST:
        raise YamlError(f"nested deeper than {DEEPEST} levels", line)
    return values, levels
