"""The base class, field types and field roles that all parts of the sweep-file schema share.

Values are frozen and never corrected silently. Every field declares its role: `IDENTITY` fields can
change a state's weights or its answers, so they enter the ids (see `plan.identity`); `RUNTIME`
fields cannot; `GRID` fields say which cells are measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict


class SpecError(ValueError):
    """A sweep file that cannot be read or planned; the message has one problem per line.

    Each line begins with the field's dotted path and a colon; `add_line_numbers` puts the file and
    line before it.
    """


IDENTITY: JsonDict = {"role": "identity"}
RUNTIME: JsonDict = {"role": "runtime"}
GRID: JsonDict = {"role": "grid"}


def ascending(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes; raise `ValueError` if one is not greater than the one before it."""
    for before, size in itertools.pairwise(sizes):
        if size <= before:
            raise ValueError(f"found {size} after {before}; must be ascending and distinct")
    return sizes


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Count = Annotated[int, Field(ge=1)]
Counts = Annotated[tuple[Count, ...], AfterValidator(ascending)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""Below 2^31: torch and vLLM accept 64 bits, and values derived from a seed and a step must fit."""


class Part(BaseModel):
    """A mapping of the sweep file: frozen, strict about types, without unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


def refuse(problems: Sequence[str]) -> None:
    """Raise `ValueError` with one problem per line, if there are any."""
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
