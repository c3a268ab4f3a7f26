"""Reading a sweep file: YAML, `--set path=value`, and errors that say where.

`load_spec(path, overrides)` gives a frozen `Spec` or raises `SpecError`, whose message names the
file and line, the field, what was found and what is allowed; every problem is listed, not only the
first. `placed` gives the errors of later rooms (the data holds fewer examples, the cluster has too
few CPUs) their lines in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from .error_messages import _line, _told
from .overrides import _Overridden
from .part import SpecError
from .shorthand import expand
from .spec import Spec


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
