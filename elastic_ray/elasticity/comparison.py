"""Compares two models or two sweeps: differences of the measured quantities, with intervals.

Prompts that both answered are drawn together, so that the difficulty of a prompt cancels. The
interval of a difference is therefore narrower than two separate intervals suggest. Seeds of two
models have nothing in common and are drawn independently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .curve import Curve, CurveKey
from .mean_draws import draw_means
from .quantities import QUANTITIES, draw_bounds, estimated
from .resampling import RESAMPLES, Bounds, Estimate, check_resamples
from .rows import ElasticityError

MATCHED_BY = ("task", "positive")
"""Fields of the key that two compared curves share by default."""


@dataclass(frozen=True)
class Difference:
    """The quantities of `one` minus those of `other`.

    A value is None if the quantity is undefined in either curve. If a quantity is censored in one
    of them, the difference has no value but may have one end of its interval. `same_runs` has
    intervals over prompts alone, with the training runs held fixed. `paired` counts the prompts
    that both answered. `notes` say what is not compared, and which conditions differ.
    """

    one: CurveKey
    other: CurveKey
    quantities: Mapping[str, Estimate]
    same_runs: Mapping[str, Estimate]
    paired: int
    notes: tuple[str, ...] = ()


OVER_A_WINDOW = ("late_rate", "elasticity_index")
"""Quantities that depend on the length of the window."""


def compare(one: Curve, other: Curve, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """Return the difference of two curves in every quantity of `QUANTITIES`.

    Late rates and indices over different windows are not compared; a note says so.
    """
    check_resamples(resamples)
    found, same = (
        {
            name: estimated(minus(a[name], b[name])) if name in a and name in b else Estimate()
            for name in QUANTITIES
        }
        for a, b in (
            joint_bounds((one, other), resamples, seed, seeds=seeds) for seeds in (True, False)
        )
    )
    notes = []
    if one.window != other.window:
        notes.append(
            f"late rate and index are over {one.window:g} and {other.window:g} reversion sizes: "
            "not compared"
        )
        for each in (found, same):
            each |= dict.fromkeys(OVER_A_WINDOW, Estimate())
    base = found["base"]
    if base.low is not None and base.high is not None and not base.low <= 0 <= base.high:
        notes.append(
            "the baselines differ: the way back is longer for the model whose baseline is lower"
        )
    shared = set(one.prompts) & set(other.prompts) if one.key.task == other.key.task else ()
    return Difference(one.key, other.key, found, same, len(shared), tuple(notes))


def compare_all(
    ones: Iterable[Curve],
    others: Iterable[Curve],
    by: Sequence[str] = MATCHED_BY,
    resamples: int = RESAMPLES,
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


def minus(one: Bounds, other: Bounds) -> Bounds:
    """Return the bounds of a difference, for each resample."""
    with np.errstate(invalid="ignore"):
        low, high = one[0] - other[1], one[1] - other[0]
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


ByQuantity: TypeAlias = dict[str, Bounds]


def joint_bounds(
    curves: Sequence[Curve], resamples: int = RESAMPLES, seed: int = 0, *, seeds: bool = True
) -> list[ByQuantity]:
    """Return the bounds of each curve's quantities under the same draws.

    Quantities that `measure` leaves undefined are absent, for example all that derive from a gap
    within noise. With `seeds=False` the training runs are held fixed.
    """
    drawn = draw_means(curves, resamples, seed, seeds=seeds)
    return [
        draw_bounds(curve, each)[0] if len(curve.prompts) > 1 else {}
        for curve, each in zip(curves, drawn, strict=True)
    ]
