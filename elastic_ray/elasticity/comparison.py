"""Compares two models or two sweeps: differences of the measured quantities, with intervals.

Prompts that both answered are resampled together, so that the difficulty of a prompt cancels. The
interval of a difference is therefore narrower than two separate intervals suggest. Seeds are held
fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .crossings import CORRECTED, SIZES, Crossings, above_base
from .curve import Curve, CurveKey
from .quantities import QUANTITIES, Measurement, measure
from .resampling import Bounds, Estimate, check_resamples, estimate, joint_draws, left_out
from .rows import ElasticityError, Floats

MATCHED_BY = ("task", "positive")
"""Fields of the key that two compared curves share by default."""


@dataclass(frozen=True)
class Difference:
    """The quantities of `one` minus those of `other`.

    A value is None if the quantity is undefined in either curve. If one of two sizes is censored,
    the difference has no value but may have one end of its interval. `paired` counts the prompts
    that both answered.
    """

    one: CurveKey
    other: CurveKey
    quantities: Mapping[str, Estimate]
    paired: int


def compare(one: Curve, other: Curve, resamples: int = 1000, seed: int = 0) -> Difference:
    """Return the difference of two curves in every quantity of `QUANTITIES`."""
    check_resamples(resamples)
    return _difference(one, other, resamples, seed)


def compare_all(
    ones: Iterable[Curve],
    others: Iterable[Curve],
    by: Sequence[str] = MATCHED_BY,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Difference]:
    """Return the differences of all pairs of curves whose keys agree in the fields `by`.

    The default compares two models of a sweep. To compare the same models in two sweeps, use
    `("model", "task", "pretrain", "positive")`. Raises `ElasticityError` if two curves of one side
    agree, or if no pair does.
    """
    check_resamples(resamples)
    left, right = _by(ones, by), _by(others, by)
    shared = [at for at in left if at in right]
    if not shared:
        raise ElasticityError(f"no curves agree in {', '.join(by)}")
    return [compare(left[at], right[at], resamples, seed) for at in shared]


def _by(curves: Iterable[Curve], fields: Sequence[str]) -> dict[tuple[object, ...], Curve]:
    found: dict[tuple[object, ...], Curve] = {}
    for curve in curves:
        at = tuple(getattr(curve.key, name) for name in fields)
        if at in found:
            raise ElasticityError(f"{found[at].key} and {curve.key} agree in {', '.join(fields)}")
        found[at] = curve
    return found


def _difference(one: Curve, other: Curve, resamples: int, seed: int) -> Difference:
    drawn, left = joint_bounds((one, other), resamples, seed)
    same = set(one.prompts) & set(other.prompts) if one.key.task == other.key.task else ()
    found = dict.fromkeys(QUANTITIES, Estimate())
    for name in QUANTITIES:
        if all(name in bounds for bounds in drawn):
            whole, without = (minus(b[0][name], b[1][name]) for b in (drawn, left))
            found[name] = bounded(name, whole, without)
    return Difference(one.key, other.key, found, len(same))


def minus(one: Bounds, other: Bounds) -> Bounds:
    """Return the bounds of a difference, for each resample."""
    with np.errstate(invalid="ignore"):
        low, high = one[0] - other[1], one[1] - other[0]
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


def bounded(name: str, drawn: Bounds, left: Bounds) -> Estimate:
    """Return the estimate of a value derived from the quantity `name`.

    Only sizes keep interval ends without a value.
    """
    found = estimate(*drawn, left if name in CORRECTED else None)
    return found if found.value is not None or name in SIZES else Estimate()


ByQuantity: TypeAlias = dict[str, Bounds]


def joint_bounds(
    curves: Sequence[Curve], resamples: int = 1000, seed: int = 0
) -> tuple[list[ByQuantity], list[ByQuantity]]:
    """Return the bounds of each curve's quantities under the same draws, then under the jackknife.

    Quantities that `measure` leaves undefined are absent, for example all that derive from a gap
    within noise.
    """
    measured = [measure(curve, resamples, seed) for curve in curves]
    weights = joint_draws(curves, resamples, seed), left_out(curves)
    drawn, left = ([_bounds(m, w) for m, w in zip(measured, each, strict=True)] for each in weights)
    return drawn, left


def _bounds(measured: Measurement, weights: Floats) -> ByQuantity:
    curve = measured.curve
    known: ByQuantity = {}
    if len(curve.prompts) < 2:
        return known
    if curve.base is not None:
        base = weights @ curve.base
        known["base"] = base, base
    if measured.aligned.value is not None:
        aligned = weights @ curve.by_prompt[0]
        known["aligned"] = aligned, aligned
    if measured.gap.value is not None:
        above, rounding = above_base(curve, weights)
        known["gap"] = above[:, 0], above[:, 0]
        if "gap within noise" not in measured.notes:
            sizes = np.array(curve.negatives, dtype=np.float64)
            known |= Crossings(above, sizes, rounding).bounds
    return known
