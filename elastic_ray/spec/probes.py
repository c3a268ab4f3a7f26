"""What every state is asked."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from .part import GRID, IDENTITY, Count, Part, Seed


class Generation(Part):
    """How a state is questioned. Answers depend on all of it, so all of it is identity."""

    prompts: int = Field(256, ge=2, json_schema_extra=IDENTITY)
    samples: int = Field(1, ge=1, le=1000, json_schema_extra=IDENTITY)
    """Answers per prompt."""
    max_tokens: int = Field(48, ge=1, json_schema_extra=IDENTITY)
    temperature: float = Field(1.0, ge=0, le=10, json_schema_extra=IDENTITY)
    top_k: int = Field(30, ge=0, json_schema_extra=IDENTITY)
    """0: all tokens."""
    top_p: float = Field(0.9, gt=0, le=1, json_schema_extra=IDENTITY)
    seed: Seed = Field(0, json_schema_extra=IDENTITY)


class CodeLength(Part):
    """How many bits a state takes for texts it was not taught: its code length of them.

    Of held-out texts of each distribution that the models are taught.
    """

    texts: int = Field(64, ge=2, json_schema_extra=IDENTITY)
    """Held-out texts of each distribution."""
    window: int = Field(256, ge=8, json_schema_extra=IDENTITY)
    """Tokens seen at once, the first ones given; a longer text is coded in parts."""


class Probes(Part):
    """What is asked of every state beside its answers."""

    code_length: CodeLength | None = Field(None, json_schema_extra=IDENTITY)


Pair = tuple[Count, Count]


def _ascending_pairs(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    for lower, upper in pairs:
        if lower >= upper:
            raise ValueError(f"found [{lower}, {upper}]; the smaller of two slices comes first")
    twice = [pair for pair in pairs if pairs.count(pair) > 1]
    if twice:
        raise ValueError(f"found {list(twice[0])} more than once; each pair once")
    return pairs


class Lessons(Part):
    """States that learn other states' answers, and how far they get (paper, section 3.3).

    Of each pair (k, l) of positive sizes, numbered from 1: the state of size l learns what that of
    size k answers to `queries` held-out prompts (the inverse path), and the other way round (the
    forward path). Then the distance to the teacher is measured, on the teacher's answers to the
    prompts of `generation`, which are others. Both paths have the same prompts, steps and recipe.
    """

    pairs: Annotated[tuple[Pair, ...], AfterValidator(_ascending_pairs)] = Field(
        min_length=1, json_schema_extra=GRID
    )
    queries: Count = Field(json_schema_extra=IDENTITY)
    """Held-out prompts that the teacher answers for the student, after those of `generation`."""
