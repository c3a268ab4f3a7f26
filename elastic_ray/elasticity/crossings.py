"""Reversion size, half-life, rates and elasticity index of a curve, for all resamples at once.

The package docstring defines the quantities. Each resample gives a lower and an upper bound of a
quantity. The bounds are equal where the quantity is known; where it is not, they widen both ends of
its interval.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .curve import Curve
from .resampling import Bounds, Estimate, estimate
from .rows import Floats

PER = 100.0
"""The number of negative examples that rates refer to."""

SIZES = ("reversion_size", "half_life")

CORRECTED = ("elasticity_index",)
"""Quantities with BCa intervals; the others have percentile intervals.

The others are monotonic in the baseline, so percentiles, which depend only on the order of
resamples, are adequate. The index depends on two rates that move against each other: extreme
resamples fold back, and percentile intervals are too wide (`benchmarks/coverage.py`)."""

_ROUNDING = 1e-12
"""Differences below this fraction of the largest score are rounding errors and count as 0."""


def above_base(curve: Curve, weights: Floats) -> tuple[Floats, float]:
    """Return the score above the baseline, [rows, sizes], and the rounding threshold.

    `weights` is [rows, prompts]. The curve must have a baseline.
    """
    assert curve.base is not None
    # Differences are taken per prompt, before averaging: exact and paired.
    above: Floats = weights @ (curve.by_prompt - curve.base).T
    largest = max(np.abs(curve.base).max(), np.nanmax(np.abs(curve.scores)))
    rounding = _ROUNDING * float(largest)
    above[np.abs(above) <= rounding] = 0.0
    return above, rounding


def first_reach(height: Floats, sizes: Floats) -> Floats:
    """Return the size at which each row of `height` [rows, sizes] first reaches 0, [rows].

    Interpolation is linear in log n between sizes, and in log(1 + n) below the smallest. The result
    is 0 if the row starts at or below 0, and infinity if it never reaches 0.
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


class Crossings:
    """Sizes, rates and index from `above` [rows, sizes], the score above the baseline.

    The gap `above[0, 0]` must not be 0. Differences up to `rounding` count as 0.
    """

    def __init__(self, above: Floats, sizes: Floats, rounding: float) -> None:
        self.sizes = sizes
        self.largest = sizes[-1]
        start = above[:, 0]
        self.direction = np.sign(start[0])
        height = above * self.direction
        self.lost = height[:, 0] <= 0
        """Resamples in which the gap is 0 or has the opposite sign: every quantity is undefined."""
        if len(sizes) > 1:
            self.reversion = first_reach(height, sizes)
            half = height - height[:, :1] / 2
            self.half = first_reach(np.where(np.abs(half) <= rounding, 0.0, half), sizes)
        else:
            self.reversion = self.half = np.full(len(above), np.inf)
        known = ~self.lost & np.isfinite(self.reversion)
        ends = known & (self.reversion < self.largest)
        early = PER * start / np.where(known, self.reversion, 1.0)
        late = -PER * above[:, -1] / np.where(ends, self.largest - self.reversion, 1.0)
        # Censored: the rate lies between no return at all and a return at the largest size.
        never = ~self.lost & ~known
        latest = PER * start / max(self.largest, 1.0)
        self.early = (
            np.select([known, never], [early, np.minimum(latest, 0)], -np.inf),
            np.select([known, never], [early, np.maximum(latest, 0)], np.inf),
        )
        self.late = (np.where(ends, late, -np.inf), np.where(ends, late, np.inf))
        sound = ends & (early > 0) & (late > 0)
        index = np.log(np.where(sound, early, 1.0)) - np.log(np.where(sound, late, 1.0))
        # As the late rate falls to 0, the index grows without bound; below 0 it has no upper bound.
        past = np.where(ends & (early > 0), np.inf, -np.inf)
        self.index = (np.where(sound, index, past), np.where(sound, index, np.inf))

    @property
    def bounds(self) -> dict[str, Bounds]:
        """Bounds of each quantity, by resample; empty if no negative size has a score."""
        if len(self.sizes) == 1:
            return {}
        return {
            "reversion_size": self._size(self.reversion),
            "half_life": self._size(self.half),
            "early_rate": self.early,
            "late_rate": self.late,
            "elasticity_index": self.index,
        }

    def _size(self, reach: Floats) -> Bounds:
        low = np.where(self.lost, 0.0, np.minimum(reach, self.largest))
        return low, np.where(self.lost, np.inf, reach)

    def estimates(self, left_out: Mapping[str, Bounds]) -> dict[str, Estimate]:
        """Return the value and interval of each quantity. A censored size has only a lower end.

        `left_out` holds the bounds with groups of prompts left out (the jackknife).
        """
        found = {}
        for name, bounds in self.bounds.items():
            whole = estimate(*bounds, left_out[name] if name in CORRECTED else None)
            if whole.value is None:
                whole = Estimate(None, whole.low, None) if name in SIZES else Estimate()
            found[name] = whole
        return found

    def notes(self, found: dict[str, Estimate]) -> list[str]:
        """Return a note for each quantity that is undefined, censored or unbounded."""
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
