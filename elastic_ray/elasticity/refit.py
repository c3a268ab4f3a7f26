"""The sampling variation of a fit: the family is refitted to every resample, all at once.

The draws are those of the intervals of a curve (`resampling`). The family is kept, and each fit
starts from the fit to the data (Levenberg-Marquardt, some tens of steps). Intervals have percentile
ends, which do not depend on the units of a shape parameter; for shares and powers they are
corrected for bias. In simulated sweeps (`benchmarks/coverage.py`), alternatives covered the planted
value too rarely: the delta method in 91% (shape of two exponentials), BCa in 89% (a floor beyond
the measured sizes), uncorrected percentiles in 92% (a share).
"""

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from .crossings import Crossings
from .curve import CurveKey
from .families import Family
from .least_squares import Cells, limits
from .resampling import Estimate, draws, estimate
from .rows import Floats

DERIVED = ("reversion_size", "half_life", "early_rate", "late_rate", "elasticity_index")
"""Quantities that are read off the fitted curve on a fine grid, by the same definitions."""

_NO_SKEW = (np.zeros(2), np.zeros(2))
"""A jackknife without skewness, which corrects for bias only.

Shares and powers lie between bounds, which bias their estimates inwards. Sizes are searched in
logarithms and need no correction."""

_GRID = 300
_STEPS = 40


class Refits:
    """The fits to all resamples; the first is the fit to the data."""

    def __init__(
        self, family: Family, cells: Cells, at: Floats, key: CurveKey, resamples: int, seed: int
    ) -> None:
        self.family, self.cells = family, cells
        self.weights = draws(astuple(key), cells.by_prompt.shape[1], resamples, seed)
        self.at = refit(family, cells, at, self.weights @ cells.by_prompt.T)

    def parameters(self) -> dict[str, Estimate]:
        """Return the estimates of starts, levels and shape parameters by name."""
        starts = [f"start at {positive}" for positive in self.cells.positives]
        shapes = self.cells.shapes(self.family)
        linear = [*starts, *self.family.levels]
        found = {name: estimate(self.at[:, i]) for i, name in enumerate(linear)}
        for i, shape in enumerate(shapes, start=len(linear)):
            drawn = self.at[:, i]
            found[shape.name] = (
                estimate(np.exp(drawn)) if shape.log else estimate(drawn, jackknife=_NO_SKEW)
            )
        return found

    def derived(self, positive: int) -> dict[str, Estimate]:
        """Return the quantities of the fitted curve at a positive size.

        They are undefined if the fitted gap is within noise, or if there is no baseline.
        """
        found = dict.fromkeys(DERIVED, Estimate())
        place = self.cells.positives.index(positive)
        largest = self.cells.negative[self.cells.row == place].max(initial=0.0)
        if self.cells.base is None or largest <= 0:
            return found
        grid = np.expm1(np.linspace(0.0, np.log1p(largest), _GRID))
        base = (self.weights @ self.cells.base)[:, None]
        above = self.cells.predict(self.family, self.at, positive, grid) - base
        gap = estimate(above[:, 0])
        if gap.low is None or gap.high is None or gap.low <= 0 <= gap.high:
            return found
        for name, bounds in Crossings(above, grid, 0.0).bounds.items():
            whole = estimate(*bounds)
            found[name] = whole if whole.value is not None else Estimate()
        return found


def refit(family: Family, cells: Cells, at: Floats, means: Floats) -> Floats:
    """Return the fits [rows, parameters] to `means` [rows, cells], starting from `at`."""
    first = len(cells.positives) + len(family.levels)
    low, high = (np.full(len(at), end) for end in (-np.inf, np.inf))
    low[first:], high[first:] = limits(family, cells)
    steps = 1e-6 * np.maximum(np.abs(at), 0.01)
    found = np.repeat(at[None], len(means), axis=0)
    left = means - cells.scores(family, found)
    loss, damping = np.sum(left**2, axis=1), np.full(len(means), 1e-3)
    ridge = 1e-12 * np.eye(len(at))
    for _ in range(_STEPS):
        slopes = np.stack(
            [(cells.scores(family, found + step) - (means - left)) / step.sum()
             for step in np.diag(steps)], axis=2,
        )  # fmt: skip
        square = slopes.transpose(0, 2, 1) @ slopes
        size = np.einsum("rii->ri", square)[:, :, None] * np.eye(len(at))
        pull = np.einsum("rck,rc->rk", slopes, left)
        step = np.linalg.solve(square + damping[:, None, None] * size + ridge, pull[..., None])
        tried = np.clip(found + step[..., 0], low, high)
        tried_left = means - cells.scores(family, tried)
        tried_loss = np.sum(tried_left**2, axis=1)
        better = tried_loss < loss
        settled = np.all(np.abs(loss - tried_loss) <= 1e-9 * loss + 1e-18)
        found, left = (np.where(better[:, None], x, y) for x, y in ((tried, found),
                                                                   (tried_left, left)))  # fmt: skip
        loss = np.where(better, tried_loss, loss)
        damping = np.clip(np.where(better, damping / 4, damping * 5), 1e-9, 1e9)
        if settled:
            break
    return found
