"""Intervals from resampled values, and the bootstrap over prompts.

`mean_draws` draws the means of curves over prompts and seeds. Where seeds are held fixed, a prompt
is drawn together with everything that was scored on it (Efron and Tibshirani, 1993, ch. 8.3). Row 0
of every resampled array is the data itself; the other rows are resamples. Estimates and intervals
therefore come from the same arithmetic.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np

from .rows import ElasticityError, Floats

LEVEL = 0.95
"""Confidence level of all intervals."""

RESAMPLES = 2000
"""Default number of draws behind an interval."""

Bounds: TypeAlias = tuple[Floats, Floats]
"""Lower and upper bound of a quantity in each resample: equal if known, infinite if unknown."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval. A value of None is undefined, an end of None is unbounded."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


def check_resamples(resamples: int) -> None:
    """Raise `ElasticityError` below 40 resamples: they do not determine a 95% interval."""
    if resamples < 40:
        raise ElasticityError(f"resamples: at least 40 for a 95% interval; found {resamples}")


def draws(name: Sequence[object], prompts: int, resamples: int, seed: int) -> Floats:
    """Return prompt weights [1 + resamples, prompts]: equal weights, then draws with replacement.

    Rows sum to 1. The same `name` and `seed` give the same draws. A single prompt is not resampled:
    the result is [1, 1].
    """
    equal = np.full((1, prompts), 1.0 / prompts)
    if prompts == 1:
        return equal
    drawn = _counts(generator(seed, *name), prompts, resamples)
    return np.concatenate([equal, drawn / prompts])


def generator(*name: object) -> np.random.Generator:
    """Return a generator that is seeded by `name`, equal on every machine."""
    text = json.dumps(name).encode()
    entropy = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")
    return np.random.default_rng(entropy)


def _counts(rng: np.random.Generator, prompts: int, resamples: int) -> Floats:
    """Return how often each prompt is drawn, [resamples, prompts]."""
    drawn = rng.integers(prompts, size=(resamples, prompts))
    cell = drawn + prompts * np.arange(resamples)[:, None]
    counts = np.bincount(cell.ravel(), minlength=resamples * prompts)
    return counts.reshape(resamples, prompts).astype(np.float64)


def estimate(low: Floats, high: Floats | None = None, *, unbiased: bool = False) -> Estimate:
    """Return the estimate from resampled values, or from their lower and upper bounds.

    The interval has percentile ends. `unbiased` corrects them for the bias of the resampled median
    (Efron, 1987, without acceleration).
    """
    high = low if high is None else high
    value = _finite(low[0]) if low[0] == high[0] else None
    if len(low) == 1:
        return Estimate(value)
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    if unbiased and value is not None:
        tails = _corrected(value, low[1:], high[1:], tails)
    # Order statistics rounded outwards, without interpolation: values may be infinite.
    last = len(low) - 2
    return Estimate(
        value,
        _finite(np.sort(low[1:])[math.floor(tails[0] * last)]),
        _finite(np.sort(high[1:])[math.ceil(tails[1] * last - 1e-9)]),
    )


def _corrected(
    value: float, low: Floats, high: Floats, tails: tuple[float, float]
) -> tuple[float, float]:
    normal = NormalDist()
    # Unknown resamples and ties count half on each side of the value.
    below = np.mean([(low < value), (low <= value), (high < value), (high <= value)])
    bias = normal.inv_cdf(float(np.clip(below, 1 / (len(low) + 1), len(low) / (len(low) + 1))))
    ends = [normal.cdf(2 * bias + normal.inv_cdf(tail)) for tail in tails]
    return ends[0], ends[1]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
