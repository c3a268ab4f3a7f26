"""Reads sweep files: YAML, `--set path=value` overrides, and errors with file and line.

`load_spec` returns a frozen `Spec` or raises `SpecError`. Its message lists every problem, not only
the first, each with the file and line, the field, the value found and what is allowed.
`add_line_numbers` does the same for problems that later steps find in a spec that was loaded (the
task has fewer examples, the cluster too few CPUs).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from .error_messages import locate_line, messages_of
from .overrides import SweepFile
from .part import SpecError
from .places import resolve_paths
from .shorthand import expand
from .spec import Spec


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Return the spec in the sweep file at `path`, with `path=value` overrides applied.

    Raises `SpecError` for a file that cannot be read or does not fit the schema.
    """
    file = SweepFile.read(path, overrides)
    try:
        data = resolve_paths(file, expand(file.data), Path(path).absolute().parent)
        as_json = json.dumps(data)
        return Spec.model_validate_json(as_json, strict=True)
    except ValidationError as e:
        errors = e.errors()
        # pydantic reports a list whose elements are all invalid as too short as well; drop that.
        parents = {
            error["loc"][:-1][:depth] for error in errors for depth in range(len(error["loc"]))
        }
        lines = [
            line
            for error in errors
            if not (error["type"] == "too_short" and error["input"] and error["loc"] in parents)
            for line in messages_of(file, error)
        ]
        raise SpecError("\n".join(dict.fromkeys(lines))) from None


def add_line_numbers(
    error: SpecError, path: str | Path, overrides: Sequence[str] = ()
) -> SpecError:
    """Return the error with file and line (or `--set`) before each of its problems.

    `path` and `overrides` are those that the spec was loaded with.
    """
    try:
        file = SweepFile.read(path, overrides)
    except SpecError:  # a pipe cannot be read twice, and the file may have been deleted
        return error
    lines = [locate_line(file, [], line) for line in str(error).splitlines()]
    return SpecError("\n".join(lines))
