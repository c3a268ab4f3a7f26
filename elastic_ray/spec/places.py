"""Paths in sweep files: `~`, `$VAR`, and paths relative to the sweep file.

A relative path of a sweep file starts at the file's folder, or else, if nothing is there, at the
working directory; one given by `--set` the other way round. Paths are no part of any identity: the
content that they lead to is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .error_messages import as_written, locate_line
from .overrides import SweepFile
from .part import SpecError

_SECTIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "models": ((),),
    "task": (("scorer",), ("data",), ("instruct", "data")),
}
"""Where the elements of a section hold a `path`."""


def resolve_paths(file: SweepFile, data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the sweep file's mapping, written out by `expand`, with absolute paths.

    `folder` is that of the sweep file. A relative path at which nothing is found stays as it is.
    Raises `SpecError` for a variable that is not set, and a home folder that does not exist.
    """
    problems: list[str] = []
    for holder, loc in _holders(data):
        path, shown = holder["path"], ".".join(loc)
        expanded = os.path.expanduser(os.path.expandvars(path))
        unset = re.findall(r"\$(?:\w+|\{[^}]*\})", expanded)
        if unset and not os.path.exists(expanded):
            problems.append(f"{shown}: found {path!r}; the variable {unset[0]} is not set")
        elif expanded.startswith("~") and not os.path.exists(expanded):
            problems.append(f"{shown}: found {path!r}; there is no such home folder")
        else:
            starts = [folder, Path.cwd()]
            if file.location(as_written(loc, file.data)) == "--set":
                starts.reverse()
            candidates = [os.path.abspath(start / expanded) for start in starts]
            holder["path"] = next(filter(os.path.exists, candidates), expanded)
    if problems:
        raise SpecError("\n".join(locate_line(file, [], line) for line in problems))
    return data


def _holders(data: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield a copy, put into `data`, of every mapping that has a path, and where the path is."""
    for section, inner in _SECTIONS.items():
        elements = data.get(section)
        if not isinstance(elements, list):
            continue
        data[section] = elements = list(elements)
        for i, element in enumerate(elements):
            if not isinstance(element, dict):
                continue
            elements[i] = element = dict(element)
            for steps in inner:
                holder: Any = element
                for step in steps:
                    child = holder.get(step)
                    if not isinstance(child, dict):
                        holder = {}
                        break
                    holder[step] = holder = dict(child)
                if isinstance(holder.get("path"), str) and holder["path"]:
                    yield holder, [section, str(i), *steps, "path"]
                if steps[-1:] == ("data",) and isinstance(holder.get("pools"), dict):
                    holder["pools"] = pools = dict(holder["pools"])
                    for name, pool in pools.items():
                        if isinstance(pool, dict) and isinstance(pool.get("path"), str):
                            pools[name] = pool = dict(pool)
                            yield pool, [section, str(i), *steps, "pools", name, "path"]
