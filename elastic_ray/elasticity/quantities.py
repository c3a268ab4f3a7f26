"""Measures the quantities of one curve with their intervals; the package docstring defines them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .crossings import NEAR_LIMIT, Crossings, above_base
from .curve import Curve
from .mean_draws import MeanDraws, draw_means
from .resampling import RESAMPLES, Bounds, Estimate, check_resamples, estimate
from .rows import Floats

QUANTITIES = (
    "base",
    "aligned",
    "gap",
    "reversion_size",
    "reversion_share",
    "half_life",
    "half_life_share",
    "early_rate",
    "late_rate",
    "elasticity_index",
)
"""The measured quantities of a curve, in the column order of the `indices` table."""

WITHIN_NOISE = "gap within noise"
"""Note on a curve whose gap is smaller than 1.96 standard errors over prompts."""

ONE_PROMPT = "one prompt: no intervals, nothing beyond the gap"

CORRECTED = ("base", "aligned", "gap")
"""Quantities that are also given corrected for the scorer's errors."""

_SHARES = {"reversion_share": "reversion_size", "half_life_share": "half_life"}


@dataclass(frozen=True)
class Measurement:
    """The measured quantities of `curve`; `scores` and `retention` have one estimate per size.

    `by_seed` holds each seed's own value of each quantity, in the order of `curve.seeds`, None
    where it is undefined. `same_runs` holds the quantities with intervals over prompts alone, with
    these training runs held fixed. `corrected` holds those of `CORRECTED` without the scorer's
    errors, where these are known.
    """

    curve: Curve
    base: Estimate
    aligned: Estimate
    gap: Estimate
    reversion_size: Estimate
    reversion_share: Estimate
    half_life: Estimate
    half_life_share: Estimate
    early_rate: Estimate
    late_rate: Estimate
    elasticity_index: Estimate
    scores: tuple[Estimate, ...]
    retention: tuple[Estimate, ...]
    by_seed: Mapping[str, tuple[float | None, ...]]
    same_runs: Mapping[str, Estimate]
    corrected: Mapping[str, Estimate]
    notes: tuple[str, ...]

    @property
    def note(self) -> str | None:
        """One line on missing, undefined, censored and unbounded quantities, or None."""
        return "; ".join(self.notes) or None

    def row(self) -> dict[str, Any]:
        """Return the row of the `indices` table, without NaN or infinity."""
        curve, key = self.curve, self.curve.key
        row: dict[str, Any] = {
            "sweep": key.sweep,
            "model": key.model,
            "task": key.task,
            "pretrain": key.pretrain,
            "positive": key.positive,
            "parameters": curve.parameters,
            "pretrain_tokens": curve.pretrain_tokens,
            "family": curve.family,
            "scorer": curve.scorer,
            "seeds": len(curve.seeds),
            "prompts": len(curve.prompts),
            "late_window": curve.window,
        }
        for name in QUANTITIES:
            estimate: Estimate = getattr(self, name)
            same = self.same_runs.get(name, Estimate())
            row |= {
                name: estimate.value,
                f"{name}_low": estimate.low,
                f"{name}_high": estimate.high,
                f"{name}_same_runs_low": same.low,
                f"{name}_same_runs_high": same.high,
                f"{name}_by_seed": list(self.by_seed.get(name, ())),
            }
        for name in CORRECTED:
            estimate = self.corrected.get(name, Estimate())
            row |= {
                f"{name}_corrected": estimate.value,
                f"{name}_corrected_low": estimate.low,
                f"{name}_corrected_high": estimate.high,
            }
        return row | {"note": self.note}


def index_rows(
    curves: Iterable[Curve], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[dict[str, Any]]:
    """Return a row of the `indices` table for each curve, including curves without any score."""
    return [measure(curve, resamples, seed).row() for curve in curves]


def measure(curve: Curve, resamples: int = RESAMPLES, seed: int = 0) -> Measurement:
    """Measure every quantity of the curve. The same curve and `seed` give the same numbers.

    Raises `ElasticityError` for fewer than 40 `resamples`.
    """
    check_resamples(resamples)
    if not curve.prompts:
        undefined = (Estimate(),) * len(curve.negatives)
        nothing = dict.fromkeys(QUANTITIES, Estimate())
        return Measurement(
            curve, **nothing, scores=undefined, retention=undefined, by_seed={}, same_runs={},
            corrected={}, notes=curve.notes,
        )  # fmt: skip
    drawn, fixed = (draw_means([curve], resamples, seed, seeds=s)[0] for s in (True, False))
    found, retention, notes = _measured(curve, drawn)
    return Measurement(
        curve,
        **found,
        scores=tuple(estimate(within(curve, each)) for each in _rows(drawn.scores, curve)),
        retention=retention,
        by_seed=_by_seed(curve),
        same_runs=_measured(curve, fixed)[0],
        corrected=_corrected(curve, drawn, seed),
        notes=(*curve.notes, *notes),
    )


def _rows(drawn: Floats, curve: Curve) -> Floats:
    """Return the draws by size; a single prompt has no draws, and no intervals."""
    found: Floats = drawn.T if len(curve.prompts) > 1 else drawn[:1].T
    return found


def _measured(
    curve: Curve, drawn: MeanDraws
) -> tuple[dict[str, Estimate], tuple[Estimate, ...], list[str]]:
    """Return the quantities, the retention by size, and notes on what is not defined."""
    bounds, notes = draw_bounds(curve, drawn)
    found = {name: estimated(bounds[name]) if name in bounds else Estimate() for name in QUANTITIES}
    retention = (Estimate(),) * len(curve.negatives)
    if drawn.base is not None and "gap" in bounds and not {WITHIN_NOISE, ONE_PROMPT} & set(notes):
        retention = _retention(drawn.scores - drawn.base[:, None])
    unbounded = [
        name
        for name, e in found.items()
        if e.value is not None and (e.low is None or e.high is None) and name not in _SHARES
    ]
    if unbounded and len(curve.prompts) > 1:
        notes.append(f"interval not bounded: {', '.join(unbounded)}")
    return found, retention, notes


def estimated(bounds: Bounds) -> Estimate:
    """Return the estimate of a quantity; one that is censored keeps the end that is measured."""
    found = estimate(*bounds)
    if found.value is not None:
        return found
    low, high = (float(end[0]) for end in bounds)
    return Estimate(
        None,
        found.low if math.isfinite(low) else None,
        found.high if math.isfinite(high) else None,
    )


def draw_bounds(curve: Curve, drawn: MeanDraws) -> tuple[dict[str, Bounds], list[str]]:
    """Return the bounds of each defined quantity by draw, and notes on those that are not."""
    known: dict[str, Bounds] = {}
    rows = slice(None) if len(curve.prompts) > 1 else slice(1)
    scores, base = drawn.scores[rows], None if drawn.base is None else drawn.base[rows]
    starts = bool(curve.negatives) and curve.negatives[0] == 0
    if base is not None:
        known["base"] = (within(curve, base),) * 2
    if starts:
        known["aligned"] = (within(curve, scores[:, 0]),) * 2
    if base is None or not starts:
        return known, []
    above, rounding = above_base(scores, base)
    known["gap"] = above[:, 0], above[:, 0]
    if len(curve.prompts) < 2:
        return known, [ONE_PROMPT]
    if abs(float(above[0, 0])) <= 1.96 * _gap_error(curve):
        return known, [WITHIN_NOISE]
    sizes = np.array(curve.negatives, dtype=np.float64)
    crossings = Crossings(above, sizes, rounding, curve.window)
    late, early, notes = limited(curve, crossings, float(base[0]))
    bounds = crossings.bounds(late_limited=late, early_limited=early)
    for share, size in _SHARES.items():
        if size in bounds:
            positive = float(curve.key.positive)
            known[share] = bounds[size][0] / positive, bounds[size][1] / positive
    return known | bounds, [*crossings.reasons(bounds), *notes]


def within(curve: Curve, means: Floats) -> Floats:
    """Return drawn means, shares kept between 0 and 1."""
    found: Floats = means if curve.limits is None else np.clip(means, 0.0, 1.0)
    return found


def _gap_error(curve: Curve) -> float:
    """Return the standard error of the gap over prompts, for these training runs."""
    assert curve.base is not None
    difference = curve.by_prompt[0] - curve.base
    return float(difference.std(ddof=1)) / math.sqrt(len(difference))


def limited(curve: Curve, crossings: Crossings, base: float) -> tuple[bool, bool, list[str]]:
    """Return whether late and early rate rest on a limit of the scorer, and notes that say so.

    A score is at a limit if it is within 1.96 standard errors over prompts of it, or has gone all
    but a tenth of the way there from the baseline.
    """
    end = base + crossings.end_height()
    if curve.limits is None:
        return False, False, []
    floor, ceiling = curve.limits if crossings.direction > 0 else curve.limits[::-1]
    error = np.nan_to_num(curve.standard_error)

    def at(score: float, limit: float, noise: float) -> bool:
        return abs(score - limit) <= max(1.96 * noise, NEAR_LIMIT * abs(base - limit)) or (
            (score - limit) * (base - limit) < 0
        )

    notes = []
    late = not math.isnan(end) and at(end, floor, float(error[1:].max(initial=0.0)))
    if late:
        notes.append(
            f"the score is at the scorer's limit {floor:.3g} where the window ends: the late rate "
            "is at least, the index at most what was measured"
        )
    aligned = base + float(crossings.gap[0])
    early = at(aligned, ceiling, float(error[0]))
    if early:
        notes.append(
            f"the aligned score is at the scorer's limit {ceiling:.3g}: the early rate is at least "
            "what was measured"
        )
    return late, early, notes


def _corrected(curve: Curve, drawn: MeanDraws, seed: int) -> dict[str, Estimate]:
    """Return base, aligned and gap without the scorer's errors; empty where these are unknown."""
    if curve.errors is None or drawn.base is None or len(curve.prompts) < 2:
        return {}
    base = curve.errors.corrected(drawn.base, seed)
    found = {"base": _informed(base)}
    if curve.negatives and curve.negatives[0] == 0:
        aligned = curve.errors.corrected(drawn.scores[:, 0], seed)
        found |= {"aligned": _informed(aligned), "gap": _informed(aligned - base)}
    return found


def _informed(values: Floats) -> Estimate:
    """Return the estimate of draws, of which NaN could be anything."""
    if math.isnan(values[0]):
        return Estimate()
    known = ~np.isnan(values)
    return estimate(np.where(known, values, -np.inf), np.where(known, values, np.inf))


def _by_seed(curve: Curve) -> dict[str, tuple[float | None, ...]]:
    """Return each seed's own value of every quantity, measured like a curve of one seed."""
    found: dict[str, list[float | None]] = {name: [] for name in QUANTITIES}
    for at, seed in enumerate(curve.seeds):
        bases = None if curve.bases is None else curve.bases[at]
        kept = ~np.isnan(curve.scores[at]).any(axis=1)
        one = replace(
            curve,
            seeds=(seed,),
            negatives=tuple(n for n, has in zip(curve.negatives, kept, strict=True) if has),
            scores=curve.scores[at : at + 1, kept],
            base=curve.base if bases is None else bases,
            bases=None,
        )
        base = None if one.base is None else one.base.mean(keepdims=True)
        bounds, _ = draw_bounds(one, MeanDraws(one.mean[None], base))
        for name, values in found.items():
            values.append(estimated(bounds[name]).value if name in bounds else None)
    return {name: tuple(values) for name, values in found.items()}


def _retention(above: Floats) -> tuple[Estimate, ...]:
    """Return the score above the baseline at each size, divided by the gap.

    The ratio is unknown in resamples where the gap is 0 or has the opposite sign.
    """
    gap = above[:, 0]
    unknown = gap * np.sign(gap[0]) <= 0
    ratio = above[:, 1:] / np.where(unknown, 1.0, gap)[:, None]
    low = np.where(unknown[:, None], -np.inf, ratio)
    high = np.where(unknown[:, None], np.inf, ratio)
    others = (estimate(*ends) for ends in zip(low.T, high.T, strict=True))
    return (Estimate(1.0, 1.0, 1.0), *others)
