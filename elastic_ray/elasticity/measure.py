"""The quantities of one curve and their bootstrap intervals; definitions are in the package's text.

Row 0 of every resampled array is the curve itself (all prompts, equal weights), the others are the
resamples, so that estimate and interval come out of the same arithmetic.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from .curve import Curve, CurveKey, ElasticityError, Floats

QUANTITIES = (
    "base",
    "aligned",
    "gap",
    "reversion_size",
    "half_life",
    "early_rate",
    "late_rate",
    "elasticity_index",
)
"""What is measured of a curve, in the order of the `indices` table."""

LEVEL = 0.95
PER = 100.0
"""Rates are per so many negative examples."""

_ROUNDING = 1e-12
"""Differences below this share of the largest score are rounding, and count as 0."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval; None is undefined, an end that is None is not bounded."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measurement:
    """What was measured of `curve`; `scores` and `retention` follow `curve.negatives`."""

    curve: Curve
    base: Estimate
    aligned: Estimate
    gap: Estimate
    reversion_size: Estimate
    half_life: Estimate
    early_rate: Estimate
    late_rate: Estimate
    elasticity_index: Estimate
    scores: tuple[Estimate, ...]
    retention: tuple[Estimate, ...]
    notes: tuple[str, ...]

    @property
    def note(self) -> str | None:
        """What is missing, undefined, censored or not bounded, in one line; None if nothing is."""
        return "; ".join(self.notes) or None

    def row(self) -> dict[str, Any]:
        """The row of the `indices` table: no NaN, no infinity."""
        curve, key = self.curve, self.curve.key
        row: dict[str, Any] = {
            "sweep": key.sweep,
            "model": key.model,
            "task": key.task,
            "pretrain": key.pretrain,
            "positive": key.positive,
            "parameters": curve.parameters,
            "pretrain_tokens": curve.pretrain_tokens,
            "scorer": curve.scorer,
            "seeds": len(curve.seeds),
            "prompts": len(curve.prompts),
        }
        for name in QUANTITIES:
            estimate: Estimate = getattr(self, name)
            row |= {
                name: estimate.value,
                f"{name}_low": estimate.low,
                f"{name}_high": estimate.high,
            }
        return row | {"note": self.note}


def index_rows(
    curves: Iterable[Curve], *, resamples: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """Rows of the `indices` table, one for each curve, also those of which nothing is known."""
    return [measure(curve, resamples, seed).row() for curve in curves]


def measure(curve: Curve, resamples: int = 1000, seed: int = 0) -> Measurement:
    """Every quantity of the curve; the same curve and `seed` always give the same numbers.

    `resamples` are at least 40, below which no 95% interval exists, or `ElasticityError`.
    """
    if resamples < 40:
        raise ElasticityError(f"resamples: at least 40 for a 95% interval; found {resamples}")
    found: dict[str, Estimate] = dict.fromkeys(QUANTITIES, Estimate())
    notes = list(curve.notes)
    started = bool(curve.negatives) and curve.negatives[0] == 0
    nothing = retention = (Estimate(),) * len(curve.negatives)
    if not curve.prompts:
        return Measurement(curve, **found, scores=nothing, retention=nothing, notes=tuple(notes))

    weights = _weights(curve.key, len(curve.prompts), resamples, seed)
    scores = tuple(_estimate(s) for s in (weights @ curve.by_prompt.T).T)
    if started:
        found["aligned"] = scores[0]
    if curve.base is not None:
        found["base"] = _estimate(weights @ curve.base)
    if started and curve.base is not None:
        # Differences are taken prompt by prompt, before any mean: exact, and paired.
        above = weights @ (curve.by_prompt - curve.base).T
        largest = max(np.abs(curve.base).max(), np.nanmax(np.abs(curve.scores)))
        rounding = _ROUNDING * float(largest)
        above[np.abs(above) <= rounding] = 0.0
        found["gap"] = gap = _estimate(above[:, 0])
        if gap.value is None or gap.low is None or gap.high is None:
            notes.append("one prompt: no intervals, nothing beyond the gap")
        elif gap.low <= 0 <= gap.high:
            notes.append("gap within noise")
        else:
            sizes = np.array(curve.negatives, dtype=np.float64)
            retention, more = _retention(above), _Indices(above, sizes, rounding)
            found |= more.estimates()
            notes += more.notes(found)
    return Measurement(curve, **found, scores=scores, retention=retention, notes=tuple(notes))


def _weights(key: CurveKey, prompts: int, resamples: int, seed: int) -> Floats:
    """[1 + resamples, prompts], rows summing to 1: equal weights, then draws with replacement.

    One prompt cannot be resampled: [1, 1].
    """
    equal = np.full((1, prompts), 1.0 / prompts)
    if prompts == 1:
        return equal
    name = json.dumps([seed, *astuple(key)]).encode()
    entropy = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "big")
    drawn = np.random.default_rng(entropy).integers(prompts, size=(resamples, prompts))
    cell = drawn + prompts * np.arange(resamples)[:, None]
    counts = np.bincount(cell.ravel(), minlength=resamples * prompts)
    return np.concatenate([equal, counts.reshape(resamples, prompts) / prompts])


def _estimate(low: Floats, high: Floats | None = None) -> Estimate:
    """From resampled values, or from the bounds between which each of them lies."""
    high = low if high is None else high
    value = _finite(low[0]) if low[0] == high[0] else None
    if len(low) == 1:
        return Estimate(value)
    # Order statistics, outwards, and not between two of them: there may be infinities.
    tail = (1 - LEVEL) / 2 * (len(low) - 2)
    return Estimate(
        value,
        _finite(np.sort(low[1:])[math.floor(tail)]),
        _finite(np.sort(high[1:])[math.ceil(len(high) - 2 - tail)]),
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _retention(above: Floats) -> tuple[Estimate, ...]:
    start = above[:, 0]
    lost = start * np.sign(start[0]) <= 0
    ratio = above[:, 1:] / np.where(lost, 1.0, start)[:, None]
    low = np.where(lost[:, None], -np.inf, ratio)
    high = np.where(lost[:, None], np.inf, ratio)
    others = (_estimate(*ends) for ends in zip(low.T, high.T, strict=True))
    return (Estimate(1.0, 1.0, 1.0), *others)


def _first_reach(height: Floats, sizes: Floats) -> Floats:
    """[rows]: the size where `height` [rows, sizes] first reaches 0; infinity if it never does.

    Linear in log n between sizes, in log(1 + n) below the smallest; 0 where it starts there.
    """
    reached = height <= 0
    first = reached.argmax(axis=1)
    right = np.maximum(first, 1)
    rows = np.arange(len(height))
    above, below = height[rows, right - 1], height[rows, right]
    small, large = sizes[right - 1], sizes[right]
    inside = reached.any(axis=1) & (first > 0)
    share = np.where(inside, above, 0.0) / np.where(inside, above - below, 1.0)
    from_zero = np.expm1(share * np.log1p(large))
    between = small * (large / np.where(small > 0, small, 1.0)) ** share
    size = np.where(small > 0, between, from_zero)
    size = np.where(below == 0, large, np.minimum(size, large))
    return np.where(inside, size, np.where(reached[:, 0], 0.0, np.inf))


class _Indices:
    """Sizes, rates and index from `above` [rows, sizes], the score above the base line.

    The gap, `above[0, 0]`, is clear of 0; differences up to `rounding` are none.
    """

    def __init__(self, above: Floats, sizes: Floats, rounding: float) -> None:
        self.sizes = sizes
        self.largest = sizes[-1]
        start = above[:, 0]
        self.direction = np.sign(start[0])
        height = above * self.direction
        self.lost = height[:, 0] <= 0
        """Resamples without a gap, or with the opposite one: nothing is defined in them."""
        if len(sizes) > 1:
            self.reversion = _first_reach(height, sizes)
            half = height - height[:, :1] / 2
            self.half = _first_reach(np.where(np.abs(half) <= rounding, 0.0, half), sizes)
        else:
            self.reversion = self.half = np.full(len(above), np.inf)
        known = ~self.lost & np.isfinite(self.reversion)
        ends = known & (self.reversion < self.largest)
        early = PER * start / np.where(known, self.reversion, 1.0)
        late = -PER * above[:, -1] / np.where(ends, self.largest - self.reversion, 1.0)
        # Never back at the base line: between no return at all and one at the largest size.
        never = ~self.lost & ~known
        latest = PER * start / max(self.largest, 1.0)
        self.early = (
            np.select([known, never], [early, np.minimum(latest, 0)], -np.inf),
            np.select([known, never], [early, np.maximum(latest, 0)], np.inf),
        )
        self.late = (np.where(ends, late, -np.inf), np.where(ends, late, np.inf))
        sound = ends & (early > 0) & (late > 0)
        index = np.log(np.where(sound, early, 1.0)) - np.log(np.where(sound, late, 1.0))
        # The index grows without bound as the late rate falls to 0; below 0 it is past any bound.
        past = np.where(ends & (early > 0), np.inf, -np.inf)
        self.index = (np.where(sound, index, past), np.where(sound, index, np.inf))

    def estimates(self) -> dict[str, Estimate]:
        found = {"reversion_size": self._size(self.reversion), "half_life": self._size(self.half)}
        rates = {
            "early_rate": self.early,
            "late_rate": self.late,
            "elasticity_index": self.index,
        }
        for name, (low, high) in rates.items():
            estimate = _estimate(low, high)
            found[name] = Estimate() if estimate.value is None else estimate
        return found

    def _size(self, reach: Floats) -> Estimate:
        if len(self.sizes) == 1:
            return Estimate()
        low = np.where(self.lost, 0.0, np.minimum(reach, self.largest))
        estimate = _estimate(low, np.where(self.lost, np.inf, reach))
        # Censored itself: the lower end is all that is known.
        return estimate if estimate.value is not None else Estimate(None, estimate.low, None)

    def notes(self, found: dict[str, Estimate]) -> list[str]:
        if len(self.sizes) == 1:
            return ["no negative size has a score"]
        notes = []
        for name, level in (("reversion_size", "0"), ("half_life", "0.5")):
            size = found[name].value
            if size is None:
                notes.append(f"never crosses {level} (censored at {self.largest:.0f})")
            elif size < self.sizes[1]:
                notes.append(f"{name} lies below the smallest size {self.sizes[1]:.0f}")
        if self.direction < 0:
            notes.append("aligned is below base")
        if found["reversion_size"].value is not None:
            if found["late_rate"].value is None:
                notes.append(f"reaches 0 at the largest size {self.largest:.0f}: no late rate")
            elif found["elasticity_index"].value is None:
                low = "early" if self.direction < 0 else "late"
                notes.append(f"{low} rate not above 0: no elasticity index")
        open_ended = [
            name
            for name, e in found.items()
            if e.value is not None and (e.low is None or e.high is None)
        ]
        if open_ended:
            notes.append(f"interval not bounded: {', '.join(open_ended)}")
        return notes
