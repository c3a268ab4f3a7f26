"""Schema of `generation`, `probes`, `measures` and `lessons`: what is measured of each state."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from .part import GRID, IDENTITY, RUNTIME, Count, Part, Seed


def _temperature(value: float) -> float:
    """Return the temperature; raise `ValueError` for one that vLLM would raise to 0.01."""
    if 0 < value < 0.01:
        raise ValueError(f"found {value}; must be 0 (the likeliest token), or from 0.01 to 10")
    return value


class Generation(Part):
    """How answers are sampled. They depend on every field, so every field is identity."""

    prompts: int = Field(256, ge=2, json_schema_extra=IDENTITY)
    """Held-out prompts that each state answers."""
    samples: int = Field(1, ge=1, le=1000, json_schema_extra=IDENTITY)
    """Answers per prompt."""
    max_tokens: int = Field(48, ge=1, json_schema_extra=IDENTITY)
    """Longest answer, in tokens."""
    temperature: Annotated[float, AfterValidator(_temperature)] = Field(
        1.0, ge=0, le=10, json_schema_extra=IDENTITY
    )
    """Sampling temperature; 0 picks the likeliest token. The smallest other value is 0.01."""
    top_k: int = Field(30, ge=0, json_schema_extra=IDENTITY)
    """Sample among the k likeliest tokens; 0 means all tokens."""
    top_p: float = Field(0.9, gt=0, le=1, json_schema_extra=IDENTITY)
    """Sample among the likeliest tokens whose probabilities add up to this share."""
    seed: Seed = Field(0, json_schema_extra=IDENTITY)
    """Seed of the sampling."""
    deterministic: bool = Field(False, json_schema_extra=IDENTITY)
    """Whether an answer must not depend on the other requests that are computed with it, to the
    last bit (vLLM's batch invariance). Needs GPUs of compute capability 8.0 or higher, and costs up
    to a third of the speed."""


class CodeLength(Part):
    """How code lengths are measured: the bits a state needs to encode held-out texts.

    The texts come from each distribution that the models are trained on.
    """

    texts: int = Field(64, ge=2, json_schema_extra=IDENTITY)
    """Held-out texts of each distribution."""
    window: int = Field(256, ge=8, json_schema_extra=IDENTITY)
    """Context window in tokens, including a text's prompt, which is not encoded. Longer texts are
    encoded in several windows."""


class Probes(Part):
    """Optional measurements of every state."""

    code_length: CodeLength | None = Field(None, json_schema_extra=IDENTITY)
    """Measure code lengths, with these settings. Default: not measured."""
    base_distance: bool = Field(False, json_schema_extra=GRID)
    """Measure the distance of every state of a curve from its baseline (KL divergence and others),
    on the baseline's own answers. Costs two forward passes over these per state."""


class Measures(Part):
    """How recorded scores are turned into numbers. Measuring again needs no training."""

    window: float = Field(4.0, gt=1, le=100, json_schema_extra=RUNTIME)
    """End of the late rate's window, in reversion sizes: the late rate is the fall from n* to
    `window` x n*. Indices over different windows are not compared."""
    kl_epsilon: float = Field(0.01, gt=0, json_schema_extra=RUNTIME)
    """KL divergence from the baseline, in nats, below which a model counts as back there."""


Pair = tuple[Count, Count]


def _ascending_pairs(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    for lower, upper in pairs:
        if lower >= upper:
            raise ValueError(f"found [{lower}, {upper}]; the smaller of two slices comes first")
    duplicates = [pair for pair in pairs if pairs.count(pair) > 1]
    if duplicates:
        raise ValueError(f"found {list(duplicates[0])} more than once; each pair once")
    return pairs


class Lessons(Part):
    """States that are trained on another state's answers, and their distance from it.

    This is the inverse-versus-forward experiment (paper, section 3.3). For each pair (k, l) of
    positive sizes, numbered from 1, the state of size l is trained on the answers of the state of
    size k to `queries` held-out prompts (the inverse path), and the other way round (the forward
    path). The distance to the teacher is then measured on the teacher's answers to the prompts of
    `generation`, which differ from the queries. Both paths share prompts, steps and recipe.
    """

    pairs: Annotated[tuple[Pair, ...], AfterValidator(_ascending_pairs)] = Field(
        min_length=1, json_schema_extra=GRID
    )
    """Pairs of positive sizes by number from 1, the smaller first, e.g. [[1, 2], [1, 3]]."""
    queries: Count = Field(json_schema_extra=IDENTITY)
    """Held-out prompts that the teacher answers for the student; they come after those of
    `generation`."""
