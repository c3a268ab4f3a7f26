"""The sampling variation of a fit: the family is refitted to every resample, all at once.

The draws are those of the intervals of a curve (`resampling`). The family is kept, and each fit
starts from the fit to the data (Levenberg-Marquardt, some tens of steps). Intervals have percentile
ends, which do not depend on the units of a shape parameter; for shares and powers they are
corrected for bias. In simulated sweeps (`benchmarks/coverage.py`), alternatives covered the planted
value too rarely: the delta method in 91% (shape of two exponentials), BCa in 89% (a floor beyond
the measured sizes), uncorrected percentiles in 92% (a share).
"""

from __future__ import annotations

import numpy as np

from .crossings import Crossings
from .families import Family
from .least_squares import Cells, limits
from .mean_draws import draw_means
from .quantities import estimated, limited
from .resampling import Estimate, estimate
from .rows import Floats

DERIVED = ("reversion_size", "half_life", "early_rate", "late_rate", "elasticity_index")
"""Quantities that are read off the fitted curve on a fine grid, by the same definitions."""

_GRID = 300
_STEPS = 40


class Refits:
    """The fits to all resamples; the first is the fit to the data."""

    def __init__(self, family: Family, cells: Cells, at: Floats, resamples: int, seed: int) -> None:
        self.family, self.cells = family, cells
        drawn = draw_means(cells.curves, resamples, seed)
        self.base = next((each.base for each in drawn if each.base is not None), None)
        self.at = refit(family, cells, at, np.concatenate([d.scores for d in drawn], axis=1))

    def parameters(self) -> dict[str, Estimate]:
        """Return the estimates of starts, levels and shape parameters by name."""
        starts = [f"start at {positive}" for positive in self.cells.positives]
        shapes = self.cells.shapes(self.family)
        linear = [*starts, *self.family.levels]
        found = {name: estimate(self.at[:, i]) for i, name in enumerate(linear)}
        for i, shape in enumerate(shapes, start=len(linear)):
            drawn = self.at[:, i]
            found[shape.name] = (
                # Shares and powers lie between bounds, which bias their estimates inwards.
                estimate(np.exp(drawn)) if shape.log else estimate(drawn, unbiased=True)
            )
        return found

    def derived(self, positive: int) -> dict[str, Estimate]:
        """Return the quantities of the fitted curve at a positive size.

        They are undefined if the fitted gap is within noise, or if there is no baseline.
        """
        found = dict.fromkeys(DERIVED, Estimate())
        place = self.cells.positives.index(positive)
        largest = self.cells.negative[self.cells.row == place].max(initial=0.0)
        if self.base is None or largest <= 0:
            return found
        grid = np.expm1(np.linspace(0.0, np.log1p(largest), _GRID))
        curve = self.cells.curves[place]
        scores = self.cells.predict(self.family, self.at, positive, grid)
        above = scores - self.base[:, None]
        gap = estimate(above[:, 0])
        if gap.low is None or gap.high is None or gap.low <= 0 <= gap.high:
            return found
        crossings = Crossings(above, grid, 0.0, curve.window)
        late, early, _ = limited(curve, crossings, float(self.base[0]))
        bounds = crossings.bounds(late_limited=late, early_limited=early)
        return found | {name: estimated(each) for name, each in bounds.items()}


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
