"""The bootstrap over prompts: resampling weights, and intervals from resampled values.

A prompt is drawn together with everything that was scored on it (Efron and Tibshirani, 1993,
ch. 8.3). Row 0 of every resampled array is the data itself (all prompts, equal weights); the other
rows are resamples. Estimates and intervals therefore come from the same arithmetic.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np

from .curve import Curve
from .rows import ElasticityError, Floats

LEVEL = 0.95
"""Confidence level of all intervals."""

MOST_LEFT_OUT = 200
"""Maximum number of groups of prompts that the jackknife leaves out in turn."""

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


def joint_draws(curves: Sequence[Curve], resamples: int, seed: int) -> list[Floats]:
    """Return weights [1 + resamples, prompts] for each curve, paired where prompts are shared.

    In curves of one task, the same index is the same prompt. Prompts that are shared by the same
    set of curves form a stratum and are resampled within it, so that every curve keeps its number
    of prompts. Curves of different tasks are resampled independently. A stratum of a single prompt
    is not resampled.
    """
    members: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for i, curve in enumerate(curves):
        for prompt in curve.prompts:
            members[curve.key.task, prompt].append(i)
    strata: defaultdict[tuple[int, ...], list[tuple[str, int]]] = defaultdict(list)
    for place in sorted(members):
        strata[tuple(members[place])].append(place)
    counts_of = [len(curve.prompts) for curve in curves]
    found = [np.full((1 + resamples, count), 1.0 / max(count, 1)) for count in counts_of]
    columns = [{p: at for at, p in enumerate(c.prompts)} for c in curves]
    rng = generator(seed, *(value for c in curves for value in astuple(c.key)))
    for which, places in sorted(strata.items()):
        if len(places) == 1:
            continue
        counts = _counts(rng, len(places), resamples)
        for i in which:
            at = [columns[i][prompt] for _, prompt in places]
            found[i][1:, at] = counts / len(curves[i].prompts)
    return found


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


def left_out(curves: Sequence[Curve]) -> list[Floats]:
    """Return jackknife weights [1 + groups, prompts] for each curve.

    Row 0 has equal weights; each other row leaves out one group of prompts. A shared prompt is left
    out of all curves at once. Up to `MOST_LEFT_OUT` prompts, each group is a single prompt.
    """
    places = sorted({(c.key.task, prompt) for c in curves for prompt in c.prompts})
    groups = min(len(places), MOST_LEFT_OUT)
    group = {place: i % groups for i, place in enumerate(places)}
    found = []
    for curve in curves:
        of = np.array([group[curve.key.task, prompt] for prompt in curve.prompts], dtype=np.int64)
        kept = np.concatenate([[np.ones(len(of))], np.arange(groups)[:, None] != of])
        total = kept.sum(axis=1, keepdims=True)
        found.append(np.where(total > 0, kept / np.maximum(total, 1), 1 / max(len(of), 1)))
    return found


def estimate(low: Floats, high: Floats | None = None, jackknife: Bounds | None = None) -> Estimate:
    """Return the estimate from resampled values, or from their lower and upper bounds.

    The interval has percentile ends. With `jackknife` (the same quantity under `left_out`), it has
    the ends of the BCa method (Efron, 1987), which corrects for bias and skewness.
    """
    high = low if high is None else high
    value = _finite(low[0]) if low[0] == high[0] else None
    if len(low) == 1:
        return Estimate(value)
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    if jackknife is not None and value is not None:
        tails = _corrected(value, low[1:], high[1:], jackknife, tails)
    # Order statistics rounded outwards, without interpolation: values may be infinite.
    last = len(low) - 2
    return Estimate(
        value,
        _finite(np.sort(low[1:])[math.floor(tails[0] * last)]),
        _finite(np.sort(high[1:])[math.ceil(tails[1] * last - 1e-9)]),
    )


def _corrected(
    value: float, low: Floats, high: Floats, jackknife: Bounds, tails: tuple[float, float]
) -> tuple[float, float]:
    normal = NormalDist()
    # Unknown resamples and ties count half on each side of the value.
    below = np.mean([(low < value), (low <= value), (high < value), (high <= value)])
    bias = normal.inv_cdf(float(np.clip(below, 1 / (len(low) + 1), len(low) / (len(low) + 1))))
    ends = np.array([jackknife[0][1:], jackknife[1][1:]])
    skew = 0.0
    if np.isfinite(ends).all():
        pull = ends.mean() - ends.mean(axis=0)
        spread = float(np.sum(pull**2))
        skew = float(np.sum(pull**3)) / (6 * spread**1.5) if spread > 0 else 0.0
    found = []
    for tail in tails:
        z = bias + normal.inv_cdf(tail)
        found.append(normal.cdf(bias + z / max(1 - skew * z, 0.1)))
    return found[0], found[1]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
