"""The parts that a sweep file is made of, and what every one of them keeps to.

Values are frozen; nothing is corrected silently. Every field declares its role. `IDENTITY` fields
can change a state's weights or its answers and enter the ids (see `states`); `RUNTIME` fields
cannot; `GRID` fields say which cells are asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict


class SpecError(ValueError):
    """The sweep file asks for something that cannot be; one problem per line.

    A line begins with the field's dotted path and a colon; `spec_file` puts the place before it.
    """


IDENTITY: JsonDict = {"role": "identity"}
RUNTIME: JsonDict = {"role": "runtime"}
GRID: JsonDict = {"role": "grid"}


def ascending(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes, or `ValueError` where one is not above the one before it."""
    for before, size in itertools.pairwise(sizes):
        if size <= before:
            raise ValueError(f"found {size} after {before}; must be ascending and distinct")
    return sizes


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Count = Annotated[int, Field(ge=1)]
Counts = Annotated[tuple[Count, ...], AfterValidator(ascending)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""torch and vLLM take 64 bits; what is made from a seed and a step must fit them too."""


class Part(BaseModel):
    """A mapping of the sweep file: frozen, strict about types, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


def refuse(problems: Sequence[str]) -> None:
    """`ValueError` with one problem per line, if there are any."""
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
