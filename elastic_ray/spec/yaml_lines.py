"""Parses YAML with the line of every field, in a safe and strict subset.

Only plain values are allowed. Duplicate keys, keys that are not text, tags (`!!set`), nesting below
`MAX_DEPTH` levels and aliases that expand to more than `MAX_VALUES` values are refused. Scalars
follow YAML 1.2: `2e-4` is a number; a date, `1:30` and `010` are text (PyYAML reads the last two as
90 and 8).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAX_DEPTH = 64
"""Levels of nesting."""
MAX_VALUES = 1_000_000
"""Values in a file, with aliases expanded."""

_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")


class YamlError(ValueError):
    """Text that is not YAML of the allowed subset. `line` counts from 1; None where unknown."""

    def __init__(self, problem: str, line: int | None) -> None:
        super().__init__(problem)
        self.line = line


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, restricted to plain values and unique text keys."""

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
class YamlSource:
    """A file's data, with the YAML nodes that hold its line numbers."""

    path: str
    data: Any
    node: yaml.Node | None

    def location(self, loc: Sequence[str]) -> str:
        """Return `file:line` of the field, or of the longest part of its path in the file."""
        nodes = self._nodes_along(loc)
        node = nodes[-1] if nodes else self.node
        return f"{self.path}:{1 if node is None else node.start_mark.line + 1}"

    def has(self, loc: Sequence[str]) -> bool:
        """Return whether the file has the field."""
        return len(self._nodes_along(loc)) == len(loc)

    def _nodes_along(self, loc: Sequence[str]) -> list[yaml.Node]:
        """Return the nodes on the path to the field that the file has: keys, or list elements."""
        node, nodes = self.node, []
        for part in loc:
            child = _child(node, part)
            if child is None:
                break
            key, node = child
            nodes.append(key)
        return nodes


def _child(node: yaml.Node | None, part: str) -> tuple[yaml.Node, yaml.Node] | None:
    """Return (key, value) of a mapping, or the element of a sequence twice; None if missing."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key, value
    if isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
        return node.value[int(part)], node.value[int(part)]
    return None


def read_source(path: str | Path) -> YamlSource:
    """Return the file's data and lines; raises OSError, UnicodeDecodeError or `YamlError`."""
    data, node = parse(Path(path).read_text(encoding="utf-8"))
    return YamlSource(str(path), data, node)


def parse(text: str) -> tuple[Any, yaml.Node | None]:
    """Return the text's value and its node, (None, None) for an empty text; raises `YamlError`."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        _check_size(node, 0, {})
        return loader.construct_document(node), node
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        problem = ", ".join(part for part in (e.context, e.problem) if part)
        raise YamlError(problem, mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise YamlError(f"the character {chr(e.character)!r} is not allowed", line) from None
    except RecursionError:
        raise YamlError(f"nested deeper than {MAX_DEPTH} levels", None) from None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_size(node: yaml.Node, depth: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return (values, levels) of the node; raises `YamlError` if either is too large.

    `known` holds the results by node id: an aliased node is visited once and counted each time.
    """
    line = node.start_mark.line + 1
    if depth >= MAX_DEPTH:
        raise YamlError(f"nested deeper than {MAX_DEPTH} levels", line)
    if id(node) not in known:
        below: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            below = node.value
        elif isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        elif not _encodable(node.value):
            raise YamlError("text with half a surrogate pair, which is no character", line)
        sizes = [_check_size(child, depth + 1, known) for child in below]
        values = 1 + sum(many for many, _ in sizes)
        known[id(node)] = values, 1 + max((levels for _, levels in sizes), default=0)
        if values > MAX_VALUES:
            raise YamlError(f"more than {MAX_VALUES:,} values, with aliases expanded", line)
    values, levels = known[id(node)]
    if depth + levels > MAX_DEPTH:
        raise YamlError(f"nested deeper than {MAX_DEPTH} levels", line)
    return values, levels
