"""Tests whether a quantity changes with model size or with pre-training: the paper's two claims.

Curves are compared that differ in one respect only: models of one family with the same pre-training
by parameters, or one model (published checkpoints: one family and size) by pre-training tokens. The
positive sizes of a model are not independent evidence, because they share the baseline, the seeds
and the prompts. Therefore:

- Kendall's tau is computed over all pairs within each positive size. Its permutation test assigns
  each model another size, for all positive sizes at once.
- The slope (change per tenfold size) is the mean over positive sizes. Its 95% interval covers other
  prompts and other fine-tuning seeds, drawn jointly for all models. It does not cover other models,
  nor another pre-training run of these models unless they have replicates.

With k models the smallest two-sided p-value is 2 / k!. Fewer than 5 models therefore have no
p-value: no outcome could fall below 0.05.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .comparison import joint_bounds
from .curve import Curve
from .quantities import estimated
from .resampling import RESAMPLES, Bounds, Estimate, check_resamples
from .rows import Floats

Along: TypeAlias = Literal["parameters", "pretrain_tokens"]

MEASURED = ("reversion_size", "half_life", "elasticity_index", "early_rate", "late_rate")
"""The tested quantities; those that rest on the fewest choices come first."""

SIGNIFICANT = 0.05
"""A test that cannot reach a p-value below this is not made."""

_PERMUTATIONS = 9999


@dataclass(frozen=True)
class Scaling:
    """The trend of one quantity along one size, with the fields in `fixed` held equal.

    `sizes` are the sizes of the models in ascending order, `models` their (model, pretrain).
    `undefined` counts the curves without a value; they enter neither tau nor slope. `least_p` is
    the smallest p-value that so many models could give; `p_value` is None if that is not below
    0.05. `p_adjusted` is Holm's (1979) adjustment over everything that one call of `scaling`
    returned. `same_runs` is the slope with an interval over prompts alone, and `replicates` says
    whether every model has several pre-training runs.
    """

    quantity: str
    along: Along
    fixed: tuple[tuple[str, object], ...]
    models: tuple[tuple[str, int | None], ...]
    sizes: tuple[int, ...]
    positives: tuple[int, ...]
    tau: float | None
    least_p: float
    p_value: float | None
    p_adjusted: float | None
    slope: Estimate
    same_runs: Estimate
    undefined: int
    seeds: int
    replicates: bool


def scaling(curves: Iterable[Curve], resamples: int = RESAMPLES, seed: int = 0) -> list[Scaling]:
    """Return all trends along parameters, then along pre-training tokens, that the curves allow.

    Models of equal size count as ties. The result is empty for fewer than two sizes.
    """
    check_resamples(resamples)
    found: list[Scaling] = []
    known = list(curves)
    for along in ("parameters", "pretrain_tokens"):
        alike: defaultdict[tuple[tuple[str, object], ...], list[Curve]] = defaultdict(list)
        for curve in known:
            if getattr(curve, along):
                alike[_held(curve, along)].append(curve)
        for fixed, group in alike.items():
            if len({getattr(curve, along) for curve in group}) > 1:
                found += _along(along, fixed, group, resamples, seed)
    return _adjusted(found)


def _held(curve: Curve, along: Along) -> tuple[tuple[str, object], ...]:
    """Return what curves must have in common to be compared along one size."""
    key = curve.key
    found: list[tuple[str, object]] = [("sweep", key.sweep), ("task", key.task)]
    if along == "parameters":
        found += [("pretrain", key.pretrain), ("family", curve.family)]
        if curve.family is not None:  # published checkpoints differ in tokens too
            found.append(("tokens", curve.pretrain_tokens))
    else:
        found.append(("model", curve.line))
        if curve.family is not None:
            found.append(("parameters", curve.parameters))
    return tuple(found)


def _along(
    along: Along,
    fixed: tuple[tuple[str, object], ...],
    curves: Sequence[Curve],
    resamples: int,
    seed: int,
) -> list[Scaling]:
    drawn, held = (joint_bounds(curves, resamples, seed, seeds=seeds) for seeds in (True, False))
    size_of = {(c.key.model, c.key.pretrain): int(getattr(c, along)) for c in curves}
    models = sorted(size_of, key=lambda m: (size_of[m], m[0], m[1] or 0))
    positives = sorted({c.key.positive for c in curves})
    place = {(c.key.positive, (c.key.model, c.key.pretrain)): i for i, c in enumerate(curves)}
    sizes = np.array([size_of[m] for m in models], dtype=np.float64)
    found = []
    for name in MEASURED:
        values = np.full((len(positives), len(models)), np.nan)
        slopes: list[Bounds] = []
        slopes_fixed: list[Bounds] = []
        for row, positive in enumerate(positives):
            which: list[tuple[int, int]] = []
            for column, model in enumerate(models):
                at = place.get((positive, model))
                if at is not None and name in drawn[at]:
                    low, high = (end[0] for end in drawn[at][name])
                    if low == high and math.isfinite(low):
                        values[row, column] = low
                        which.append((column, at))
            x = np.log10(sizes[[column for column, _ in which]])
            if len(set(x)) > 1:
                slopes.append(_slope(x, [drawn[at][name] for _, at in which]))
                slopes_fixed.append(_slope(x, [held[at][name] for _, at in which]))
        tau, p = blocked_trend(sizes, values, seed=seed)
        known = sizes[np.isfinite(values).any(axis=0)]
        least = least_p(known)
        slope, same = (
            estimated(_mean(each)) if each else Estimate() for each in (slopes, slopes_fixed)
        )
        found.append(
            Scaling(
                quantity=name,
                along=along,
                fixed=fixed,
                models=tuple(models),
                sizes=tuple(int(size) for size in sizes),
                positives=tuple(positives),
                tau=tau,
                least_p=least,
                p_value=p if least < SIGNIFICANT else None,
                p_adjusted=None,
                slope=slope,
                same_runs=same,
                undefined=len(curves) - int(np.isfinite(values).sum()),
                seeds=min((len(c.seeds) for c in curves), default=0),
                replicates=all(c.bases is not None for c in curves),
            )
        )
    return found


def least_p(sizes: Floats) -> float:
    """Return the smallest two-sided p-value that models of these sizes can give.

    It is that of values that rise with every size, or fall with every size. Models of equal size
    are exchangeable.
    """
    if len(set(sizes.tolist())) < 2:
        return 1.0
    alike = math.prod(math.factorial(sizes.tolist().count(size)) for size in set(sizes.tolist()))
    return 2 * alike / math.factorial(len(sizes))


def _slope(x: Floats, values: Sequence[Bounds]) -> Bounds:
    """Return the slope of the least-squares line for each resample."""
    share = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    low = high = np.zeros(len(values[0][0]))
    with np.errstate(invalid="ignore"):
        for factor, (a, b) in zip(share, values, strict=True):
            low = low + factor * (a if factor > 0 else b) if factor else low
            high = high + factor * (b if factor > 0 else a) if factor else high
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


def _mean(values: Sequence[Bounds]) -> Bounds:
    with np.errstate(invalid="ignore"):
        low, high = (sum(b[i] for b in values) / len(values) for i in (0, 1))
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


def blocked_trend(
    sizes: Floats, values: Floats, *, permutations: int = _PERMUTATIONS, seed: int = 0
) -> tuple[float | None, float | None]:
    """Return Kendall's tau-b over pairs within each row of `values`, and its p-value.

    `values` is [blocks, models].

    The p-value is two-sided. It is exact if `permutations` allows all orders of the models (7
    models at 9999); otherwise the data count as one of the draws (Phipson and Smyth, 2010). NaN
    values form no pairs. Returns (None, None) if no pair differs in both size and value.
    """
    one, other = np.triu_indices(len(sizes), k=1)
    rise = np.sign(values[:, one] - values[:, other])
    rise = np.where(np.isnan(rise), 0.0, rise)
    known = np.isfinite(values[:, one]) & np.isfinite(values[:, other])
    step = np.sign(sizes[one] - sizes[other])
    # tau-b: pairs tied in one variable count half, as in scipy, but over all blocks together.
    total = math.sqrt(float(np.sum(known * step**2)) * float(np.sum(rise**2)))
    if total == 0:
        return None, None
    table = np.zeros((len(sizes), len(sizes)))
    table[one, other] = rise.sum(axis=0)
    table -= table.T

    def concordance(order: Sequence[int] | NDArray[np.int64]) -> float:
        moved = sizes[np.asarray(order)]
        return float(np.sum(np.sign(moved[:, None] - moved[None]) * table) / 2)

    observed = concordance(range(len(sizes)))
    if math.factorial(len(sizes)) <= permutations:
        drawn = [concordance(order) for order in itertools.permutations(range(len(sizes)))]
        p = float(np.mean(np.abs(drawn) >= abs(observed) - 1e-9))
    else:
        rng = np.random.default_rng(seed)
        drawn = [concordance(rng.permutation(len(sizes))) for _ in range(permutations)]
        p = (1 + int(np.sum(np.abs(drawn) >= abs(observed) - 1e-9))) / (1 + permutations)
    return observed / total, p


def _adjusted(found: Sequence[Scaling]) -> list[Scaling]:
    """Return the trends with p-values adjusted by Holm's step-down method."""
    tested = sorted((s.p_value, i) for i, s in enumerate(found) if s.p_value is not None)
    adjusted: dict[int, float] = {}
    largest = 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[i] = largest
    return [replace(s, p_adjusted=adjusted.get(i)) for i, s in enumerate(found)]
