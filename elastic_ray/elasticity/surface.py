"""Score surfaces over (positive, negative) sizes: the curves of one model as a matrix.

Missing scores are NaN and are never imputed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .curve import Curve, CurveKey
from .mean_draws import draw_means
from .resampling import RESAMPLES, Estimate, check_resamples, estimate
from .rows import ElasticityError, Floats


@dataclass(frozen=True, eq=False)
class Surface:
    """The curves of one (sweep, model, task, pretrain), by ascending positive size.

    `mean` and `standard_error` are [positives, negatives], NaN where there is no score. The
    standard error is over prompts, with seeds held fixed.
    """

    curves: tuple[Curve, ...]
    negatives: tuple[int, ...]
    mean: Floats
    standard_error: Floats

    @property
    def key(self) -> CurveKey:
        """Identifies the surface; its `positive` is 0."""
        return replace(self.curves[0].key, positive=0)

    @property
    def positives(self) -> tuple[int, ...]:
        return tuple(curve.key.positive for curve in self.curves)

    @property
    def parameters(self) -> int | None:
        return self.curves[0].parameters

    @property
    def pretrain_tokens(self) -> int | None:
        return self.curves[0].pretrain_tokens

    @property
    def base(self) -> float | None:
        """The mean score at (0, 0), over the prompts of the first curve that has it."""
        for curve in self.curves:
            if curve.base is not None and curve.prompts:
                return float(curve.base.mean())
        return None


def surfaces(curves: Iterable[Curve]) -> list[Surface]:
    """Return the surfaces of the curves, in order. Sizes are the union over a model's curves."""
    grouped: dict[CurveKey, list[Curve]] = {}
    for curve in curves:
        grouped.setdefault(replace(curve.key, positive=0), []).append(curve)
    return [_surface(sorted(group, key=lambda c: c.key.positive)) for group in grouped.values()]


def _surface(curves: Sequence[Curve]) -> Surface:
    negatives = tuple(sorted({n for curve in curves for n in curve.negatives}))
    mean = np.full((len(curves), len(negatives)), np.nan)
    error = mean.copy()
    for row, curve in enumerate(curves):
        at = [negatives.index(n) for n in curve.negatives]
        mean[row, at], error[row, at] = curve.mean, curve.standard_error
    return Surface(tuple(curves), negatives, mean, error)


@dataclass(frozen=True, eq=False)
class SurfaceDifference:
    """One surface minus another at their common sizes; None where either has no score.

    `cells` is [positives][negatives].
    """

    one: CurveKey
    other: CurveKey
    positives: tuple[int, ...]
    negatives: tuple[int, ...]
    cells: tuple[tuple[Estimate, ...], ...]


def surface_difference(
    one: Surface, other: Surface, resamples: int = RESAMPLES, seed: int = 0
) -> SurfaceDifference:
    """Return the difference of the scores with 95% intervals, paired where prompts are shared.

    Raises `ElasticityError` if the two have no positive size in common.
    """
    check_resamples(resamples)
    positives = [p for p in one.positives if p in other.positives]
    if not positives:
        raise ElasticityError(
            f"no positive size in common: {_sizes(one.positives)} and {_sizes(other.positives)}"
        )
    negatives = [n for n in one.negatives if n in other.negatives]
    rows = []
    for positive in positives:
        pair = [s.curves[s.positives.index(positive)] for s in (one, other)]
        if not all(curve.prompts for curve in pair):
            rows.append((Estimate(),) * len(negatives))
            continue
        a, b = (
            {n: drawn.scores[:, i] for i, n in enumerate(c.negatives)}
            for drawn, c in zip(draw_means(pair, resamples, seed), pair, strict=True)
        )
        rows.append(
            tuple(estimate(a[n] - b[n]) if n in a and n in b else Estimate() for n in negatives)
        )
    return SurfaceDifference(one.key, other.key, tuple(positives), tuple(negatives), tuple(rows))


def _sizes(sizes: Iterable[int]) -> str:
    return ", ".join(map(str, sizes))
