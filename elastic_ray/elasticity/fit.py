"""Fits a smooth surface to a measured one, with the family chosen by held-out error.

Each family of `families` is fitted by unweighted least squares to the means of the cells. Families
are compared by cross-validation: every negative size between 0 and the largest is held out once,
for all positive sizes together, and predicted from the rest. The family with the smallest root mean
square error is chosen. The result keeps the errors of all families and the noise of the cell means.

Intervals are 95% intervals over prompts and seeds, with the family held fixed (see `refit`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .families import Family, families
from .least_squares import Cells, search
from .refit import Refits
from .resampling import RESAMPLES, Estimate, check_resamples
from .rows import ElasticityError, Floats
from .surface import Surface


@dataclass(frozen=True, eq=False)
class SurfaceFit:
    """A family fitted to `surface`.

    `fitted` and `residuals` (measured - fitted) are [positives, negatives]. Residuals are NaN where
    a cell has no score; both are NaN where a positive size has no score at all. `held_out` maps
    each family to its held-out error, None if there are too few cells to fit it. `noise` is the
    root mean square of the standard errors of the cell means: a smaller error is due to chance.
    `derived` maps each positive size to the quantities read off the fitted curve.
    """

    surface: Surface
    family: Family
    parameters: Mapping[str, Estimate]
    fitted: Floats
    residuals: Floats
    held_out: Mapping[str, float | None]
    noise: float
    derived: Mapping[int, Mapping[str, Estimate]]
    _cells: Cells = field(repr=False)
    _at: Floats = field(repr=False)

    def predict(self, positive: float, negatives: Sequence[float] | Floats) -> Floats:
        """Return the fitted score at each negative size, [negatives].

        The start is interpolated linearly in the log of the positive size. The result is NaN
        outside the fitted positive sizes.
        """
        return self._cells.predict(self.family, self._at, positive, np.asarray(negatives, float))

    @property
    def error(self) -> float:
        """Root mean square of the residuals."""
        return float(np.sqrt(np.nanmean(self.residuals**2)))


def fit_surface(
    surface: Surface, only: str | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> SurfaceFit:
    """Fit the family with the smallest held-out error, or the family named `only`.

    Raises `ElasticityError` if there are too few cells, or no family of that name.
    """
    check_resamples(resamples)
    cells = Cells.of(surface)
    known = families(cells.negative.max(initial=1.0))
    if only is not None:
        chosen = next((f for f in known if f.name == only), None)
        if chosen is None:
            raise ElasticityError(f"no family {only!r}: {', '.join(f.name for f in known)}")
        held_out: dict[str, float | None] = {}
    else:
        held_out = {family.name: _held_out_error(family, cells) for family in known}
        candidates = [f for f in known if held_out[f.name] is not None]
        if not candidates:
            raise ElasticityError(f"{len(cells.score)} scored cells are too few to fit a surface")
        chosen = min(candidates, key=lambda f: held_out[f.name] or 0.0)
    if len(cells.score) <= cells.count(chosen):
        raise ElasticityError(f"{len(cells.score)} scored cells are too few for {chosen.name}")
    at = search(chosen, cells)
    fitted = np.full(surface.mean.shape, np.nan)
    for row, positive in enumerate(surface.positives):
        if positive in cells.positives:
            fitted[row] = cells.predict(chosen, at, positive, np.array(surface.negatives, float))
    refits = Refits(chosen, cells, at, resamples, seed)
    return SurfaceFit(
        surface=surface,
        family=chosen,
        parameters=refits.parameters(),
        fitted=fitted,
        residuals=surface.mean - fitted,
        held_out=held_out,
        noise=float(np.sqrt(np.nanmean(surface.standard_error**2))),
        derived={p: refits.derived(p) for p in cells.positives},
        _cells=cells,
        _at=at,
    )


def _held_out_error(family: Family, cells: Cells) -> float | None:
    """Return the root mean square error of held-out negative sizes; None with too few cells.

    The smallest and the largest size are not held out: the start cannot be predicted without size
    0, and a fit is meant for interpolation.
    """
    errors = []
    for size in sorted({n for n in cells.negative if 0 < n < cells.negative.max()}):
        rest = cells.without(size)
        if len(rest.score) <= cells.count(family) or len(set(rest.row)) < len(cells.positives):
            return None
        at = search(family, rest)
        for row, n, score in zip(cells.row, cells.negative, cells.score, strict=True):
            if n == size:
                predicted = cells.predict(family, at, cells.positives[int(row)], np.array([n]))
                errors.append(score - predicted[0])
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else None
