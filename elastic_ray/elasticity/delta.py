"""How a fit varies with the prompts: intervals by the delta method, as `fit` says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .crossings import PER
from .curve import Floats
from .families import Family
from .least_squares import Cells
from .resampling import LEVEL, Estimate

DERIVED = ("reversion_size", "half_life", "early_rate", "late_rate", "elasticity_index")
"""What is measured of a curve, read off the fitted one: the same definitions, no interpolation."""

_GRID = 200


class Delta:
    """How parameters, and what is read off them, vary with the prompts."""

    def __init__(self, family: Family, cells: Cells, at: Floats) -> None:
        from scipy.stats import t  # type: ignore[import-untyped]

        self.family, self.cells, self.at = family, cells, at
        self.split = len(cells.positives) + len(family.levels)
        slopes = _gradient(self._scores, at)
        carried = np.linalg.pinv(slopes)
        scores, prompts = cells.by_prompt, cells.by_prompt.shape[1]
        base = cells.base if cells.base is not None else np.zeros(prompts)
        # [parameters + 1, prompts]: what each prompt adds to the parameters, and to the base line.
        self.influence = np.concatenate(
            [carried @ (scores - scores.mean(1, keepdims=True)), (base - base.mean())[None]]
        )
        self.quantile = float(t.ppf((1 + LEVEL) / 2, prompts - 1)) if prompts > 1 else math.nan
        self.prompts = prompts

    def _scores(self, at: Floats) -> Floats:
        return self.cells.design(self.family, at[self.split :]) @ at[: self.split]

    def _error(self, gradient: Floats) -> float:
        each = gradient @ self.influence
        return self.quantile * float(
            np.sqrt(np.sum(each**2) / max(self.prompts - 1, 1) / self.prompts)
        )

    def parameters(self) -> dict[str, Estimate]:
        starts = [f"start at {positive}" for positive in self.cells.positives]
        found = {}
        for i, name in enumerate([*starts, *self.family.levels]):
            found[name] = _plain(self.at[i], self._error(np.eye(len(self.influence))[i]))
        for i, shape in enumerate(self.cells.shapes(self.family), start=self.split):
            form = _logarithm if shape.log else _plain
            found[shape.name] = form(self.at[i], self._error(np.eye(len(self.influence))[i]))
        return found

    def derived(self, positive: int) -> dict[str, Estimate]:
        if self.cells.base is None:
            return dict.fromkeys(DERIVED, Estimate())
        largest = self.cells.negative[self.cells.row == self.cells.positives.index(positive)].max(
            initial=0.0
        )
        point = np.append(self.at, self.cells.base.mean())

        def read(at: Floats) -> Floats:
            return read_off(
                lambda n: self.cells.predict(self.family, at[:-1], positive, n), at[-1], largest
            )

        value, slopes = read(point), _gradient(read, point)
        found = {}
        for i, name in enumerate(DERIVED):
            log = name in ("reversion_size", "half_life", "early_rate")
            if math.isfinite(value[i]) and np.isfinite(slopes[i]).all():
                found[name] = (_logarithm if log else _plain)(value[i], self._error(slopes[i]))
            else:
                found[name] = Estimate()
        return found


def read_off(curve: Callable[[Floats], Floats], base: float, largest: float) -> Floats:
    """The `DERIVED` of a smooth curve, as logarithms where they are worked with so; NaN: undefined.

    Of aligned above base only; crossings beyond the largest size are not believed.
    """
    found = np.full(len(DERIVED), np.nan)
    grid = np.expm1(np.linspace(0.0, math.log1p(largest), _GRID))
    above = curve(grid) - base
    if largest <= 0 or not above[0] > 0:
        return found
    sizes = []
    for level in (0.0, 0.5):
        height = above - level * above[0]
        after = int(np.argmax(height <= 0))
        sizes.append(
            _root(curve, base + level * above[0], grid[after - 1], grid[after])
            if height[after] <= 0
            else math.nan
        )
    reversion, half = sizes
    with np.errstate(invalid="ignore", divide="ignore"):
        found[:2] = np.log([reversion, half])
        early = PER * above[0] / reversion
        late = -PER * above[-1] / (largest - reversion)
        found[2:] = np.log(early), late, np.log(early) - np.log(late)
    return found


def _root(curve: Callable[[Floats], Floats], level: float, low: float, high: float) -> float:
    from scipy.optimize import brentq  # type: ignore[import-untyped]

    return float(
        brentq(lambda n: curve(np.array([n]))[0] - level, low, high, xtol=1e-9, rtol=1e-12)
    )


def _gradient(of: Callable[[Floats], Floats], at: Floats) -> Floats:
    """[values, parameters], by central differences."""
    steps = 1e-5 * np.maximum(np.abs(at), 1e-2)
    return np.stack(
        [(of(at + step) - of(at - step)) / (2 * np.abs(step).sum()) for step in np.diag(steps)],
        axis=1,
    )


def _plain(value: float, error: float) -> Estimate:
    if not math.isfinite(error):
        return Estimate(float(value))
    return Estimate(float(value), float(value - error), float(value + error))


def _logarithm(value: float, error: float) -> Estimate:
    of = _plain(value, error)
    ends = (None if e is None or e > 700 else math.exp(e) for e in (of.low, of.high))
    return Estimate(math.exp(value), *ends)
