"""A smooth surface fitted to a measured one: the family by held-out error, parameters, residuals.

Each family of `families` is fitted by least squares to the cells' means, all alike in weight, and
judged by how well it tells what it has not seen: every negative size between 0 and the largest is
held out once, for all positive sizes together, and told from the rest. The family with the smallest
root mean square error is chosen, and the errors of all are kept, beside the noise that the cells'
means have.

Intervals are 95%, from a bootstrap over prompts with seeds held fixed (see `refit`); they take the
family as given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .families import Family, families
from .least_squares import Cells, search
from .refit import Refits
from .resampling import Estimate, check_resamples
from .rows import ElasticityError, Floats
from .surface import Surface


@dataclass(frozen=True, eq=False)
class SurfaceFit:
    """A family fitted to `surface`.

    `fitted` and `residuals` (measured - fitted) are [positives, negatives]; residuals are NaN in
    holes, both where a positive size has no score at all. `held_out` has the error of every family,
    None where the cells are too few for it. `noise` is the standard error of a cell's mean, root
    mean square: what no family can undercut but by chance. `derived` is by positive size.
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
        """[negatives]: the fitted score; between positive sizes the start is linear in log.

        NaN outside the positive sizes that were fitted.
        """
        return self._cells.predict(self.family, self._at, positive, np.asarray(negatives, float))

    @property
    def error(self) -> float:
        """Root mean square of the residuals."""
        return float(np.sqrt(np.nanmean(self.residuals**2)))


def fit_surface(
    surface: Surface, only: str | None = None, resamples: int = 1000, seed: int = 0
) -> SurfaceFit:
    """Fit every family, choose one (or take `only`, by name, without holding anything out).

    Raises `ElasticityError` where there are too few cells for any family, or no such family.
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
        judged = [f for f in known if held_out[f.name] is not None]
        if not judged:
            raise ElasticityError(f"{len(cells.score)} scored cells are too few to fit a surface")
        chosen = min(judged, key=lambda f: held_out[f.name] or 0.0)
    if len(cells.score) <= cells.count(chosen):
        raise ElasticityError(f"{len(cells.score)} scored cells are too few for {chosen.name}")
    at = search(chosen, cells)
    fitted = np.full(surface.mean.shape, np.nan)
    for row, positive in enumerate(surface.positives):
        if positive in cells.positives:
            fitted[row] = cells.predict(chosen, at, positive, np.array(surface.negatives, float))
    refits = Refits(chosen, cells, at, surface.key, resamples, seed)
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
    """Root mean square over the cells between 0 and the largest, each told without its size.

    Not beyond the ends: there is nothing to tell the start by, and a fit is for reading between.
    """
    errors = []
    for size in sorted({n for n in cells.negative if 0 < n < cells.negative.max()}):
        rest = cells.without(size)
        if len(rest.score) <= cells.count(family) or len(set(rest.row)) < len(cells.positives):
            return None
        at = search(family, rest)
        for row, n, score in zip(cells.row, cells.negative, cells.score, strict=True):
            if n == size:
                told = cells.predict(family, at, cells.positives[int(row)], np.array([n]))
                errors.append(score - told[0])
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else None
