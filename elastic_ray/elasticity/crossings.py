"""Reversion size, half-life, rates and elasticity index of a curve, for all draws at once.

The package docstring defines the quantities. Each draw gives a lower and an upper bound of a
quantity. The bounds are equal where the quantity is known; where it is not, they widen both ends of
its interval. A quantity that is not defined at all is not among the bounds; `reasons` says why.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .curve import WINDOW
from .resampling import Bounds, estimate
from .rows import Floats

PER = 100.0
"""The number of negative examples that rates refer to."""

NEAR_LIMIT = 0.1
"""Share of the way from the baseline to a limit of the scorer that counts as at the limit."""

_ROUNDING = 1e-12
"""Differences below this fraction of the largest score are rounding errors and count as 0."""


def above_base(scores: Floats, base: Floats) -> tuple[Floats, float]:
    """Return the score above the baseline, [rows, sizes], and the rounding threshold.

    `scores` is [rows, sizes], `base` [rows].
    """
    above = scores - base[:, None]
    rounding = _ROUNDING * float(max(np.abs(base).max(), np.nanmax(np.abs(scores))))
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


def value_at(height: Floats, sizes: Floats, where: Floats) -> Floats:
    """Return the value of each row of `height` [rows, sizes] at the size `where` [rows].

    Interpolates as `first_reach` does. Sizes beyond the largest have its value.
    """
    right = np.clip(np.searchsorted(sizes, where), 1, len(sizes) - 1)
    small, large = sizes[right - 1], sizes[right]
    at = np.clip(where, small, large)
    share = np.where(
        small > 0,
        np.log(np.where(small > 0, at / np.where(small > 0, small, 1.0), 1.0))
        / np.log(np.where(small > 0, large / np.where(small > 0, small, 1.0), np.e)),
        np.log1p(at) / np.log1p(large),
    )
    rows = np.arange(len(height))
    found: Floats = (1 - share) * height[rows, right - 1] + share * height[rows, right]
    return found


class Crossings:
    """Sizes, rates and index from `above` [rows, sizes], the score above the baseline.

    Row 0 is what was measured. Its gap `above[0, 0]` must not be 0. Differences up to `rounding`
    count as 0. The window of the late rate ends at `window` reversion sizes.

    A window must lie on the axis. A rate has a value if the measured window does, and an interval
    if so does the window of the upper end of the reversion size's interval. The few draws beyond
    that end are counted at that end. Nothing thus depends on larger sizes.
    """

    def __init__(
        self, above: Floats, sizes: Floats, rounding: float, window: float = WINDOW
    ) -> None:
        self.sizes, self.window = sizes, window
        self._beyond: float | None = None
        self.largest = float(sizes[-1])
        self.gap = above[:, 0]
        self.direction = float(np.sign(self.gap[0]))
        self.height = above * self.direction
        self.lost = self.height[:, 0] <= 0
        """Draws in which the gap is 0 or has the opposite sign: every quantity is undefined."""
        if len(sizes) > 1:
            self.reversion = first_reach(self.height, sizes)
            half = self.height - self.height[:, :1] / 2
            self.half = first_reach(np.where(np.abs(half) <= rounding, 0.0, half), sizes)
        else:
            self.reversion = self.half = np.full(len(above), np.inf)

    @property
    def end(self) -> float:
        """Where the measured window ends; infinite if the score never reaches the baseline."""
        return self.window * float(self.reversion[0])

    def end_height(self) -> float:
        """The measured score at the end of the window, above the baseline; NaN if not measured."""
        if not self._on_axis(self.end):
            return math.nan
        height = value_at(self.height[:1], self.sizes, np.array([self.end]))
        return float(height[0]) * self.direction

    def _on_axis(self, size: float) -> bool:
        return size <= self.largest * (1 + 1e-9)

    def bounds(
        self, *, late_limited: bool = False, early_limited: bool = False
    ) -> dict[str, Bounds]:
        """Bounds of each defined quantity, by draw; empty if no negative size has a score.

        `late_limited` says that the score at the end of the window lies at a limit of the scorer:
        the late rate is at least what was measured. `early_limited` says so of the aligned score
        and the early rate.
        """
        if len(self.sizes) == 1:
            return {}
        found = {"reversion_size": self._size(self.reversion), "half_life": self._size(self.half)}
        if not math.isfinite(self.reversion[0]):
            return found
        most = estimate(*found["reversion_size"]).high if len(self.gap) > 1 else None
        early = self._early(most)
        found["early_rate"] = _at_least(early) if early_limited else early
        late = self._late(most)
        if late is None:
            return found
        found["late_rate"] = _at_least(late) if late_limited else late
        index = self._index(early, late)
        if index is None or (late_limited and early_limited):
            return found
        if late_limited:
            index = np.full_like(index[0], -np.inf), index[1]
        found["elasticity_index"] = _at_least(index) if early_limited else index
        return found

    def _size(self, reach: Floats) -> Bounds:
        low = np.where(self.lost, 0.0, np.minimum(reach, self.largest))
        return low, np.where(self.lost, np.inf, reach)

    def _early(self, most: float | None) -> Bounds:
        known = self._known_draws(most)
        start = np.where(known, np.minimum(self.reversion, most or math.inf), 1.0)
        return _known(PER * self.gap / np.maximum(start, 1e-300), known)

    def _known_draws(self, most: float | None) -> NDArray[np.bool_]:
        """Return which draws are known if sizes up to `most` are; None: only what was measured."""
        return np.arange(len(self.gap)) == 0 if most is None else ~self.lost

    def _late(self, most: float | None) -> Bounds | None:
        """Return the late rate; None if its window is not on the axis, or not resolved by it."""
        if not self._on_axis(self.end) or self.end <= self.sizes[1]:
            return None
        if most is not None and not self._on_axis(self.window * most):
            self._beyond, most = self.window * most, None
        known = self._known_draws(most)
        start = np.where(known, np.minimum(self.reversion, most or math.inf), 1.0)
        fall = value_at(self.height, self.sizes, start)
        fall -= value_at(self.height, self.sizes, self.window * start)
        rate = PER * fall * self.direction / ((self.window - 1) * start)
        return _known(rate, known)

    def _index(self, early: Bounds, late: Bounds) -> Bounds | None:
        """Return log(early / late); None if either rate is not above 0."""
        if early[0][0] <= 0 or late[0][0] <= 0:
            return None
        known = np.isfinite(late[0]) & np.isfinite(early[0])
        sound = known & (early[0] > 0) & (late[0] > 0)
        index = np.log(np.where(sound, early[0], 1.0)) - np.log(np.where(sound, late[0], 1.0))
        # As the late rate falls to 0, the index grows without bound; below 0 it has no upper bound.
        past = np.where(known & (early[0] > 0), np.inf, -np.inf)
        return np.where(sound, index, past), np.where(sound, index, np.inf)

    def reasons(self, bounds: dict[str, Bounds]) -> list[str]:
        """Return a note for each quantity of the measured curve that is undefined or censored."""
        if len(self.sizes) == 1:
            return ["no negative size has a score"]
        notes = []
        for name, level, reach in (
            ("reversion_size", "0", self.reversion[0]),
            ("half_life", "0.5", self.half[0]),
        ):
            if not math.isfinite(reach):
                notes.append(f"never crosses {level} (censored at {self.largest:.0f})")
            elif reach < self.sizes[1]:
                notes.append(f"{name} lies below the smallest size {self.sizes[1]:.0f}")
        if self.direction < 0:
            notes.append("aligned is below base")
        if not math.isfinite(self.reversion[0]):
            return notes
        if not self._on_axis(self.end):
            notes.append(
                f"the window ends at {self.end:.0f}, {self.window:g} x the reversion size, beyond "
                f"the largest size {self.largest:.0f}: no late rate, no index"
            )
        elif self.end <= self.sizes[1]:
            notes.append(
                f"the window ends at {self.end:.0f}, below the smallest size {self.sizes[1]:.0f}: "
                "no late rate, no index"
            )
        elif self._beyond is not None:
            notes.append(
                f"the window may end at {self._beyond:.0f}, given the interval of the reversion "
                f"size, beyond the largest size {self.largest:.0f}: late rate and index have no "
                "interval"
            )
        if "elasticity_index" in bounds or "late_rate" not in bounds:
            return notes
        if bounds["early_rate"][0][0] <= 0:
            notes.append("early rate not above 0: no elasticity index")
        elif bounds["late_rate"][0][0] <= 0:
            notes.append("late rate not above 0: no elasticity index")
        return notes


def _known(value: Floats, known: NDArray[np.bool_]) -> Bounds:
    return np.where(known, value, -np.inf), np.where(known, value, np.inf)


def _at_least(bounds: Bounds) -> Bounds:
    """Return bounds of a quantity of which only a lower bound is measured."""
    return bounds[0], np.full_like(bounds[0], np.inf)
