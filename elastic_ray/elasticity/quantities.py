"""Measures the quantities of one curve with their intervals; the package docstring defines them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from .crossings import Crossings, above_base
from .curve import Curve
from .resampling import Estimate, check_resamples, draws, estimate, left_out
from .rows import Floats

QUANTITIES = (
    "base",
    "aligned",
    "gap",
    "reversion_size",
    "half_life",
    "early_rate",
    "late_rate",
    "elasticity_index",
)
"""The measured quantities of a curve, in the column order of the `indices` table."""


@dataclass(frozen=True)
class Measurement:
    """The measured quantities of `curve`; `scores` and `retention` have one estimate per size."""

    curve: Curve
    base: Estimate
    aligned: Estimate
    gap: Estimate
    reversion_size: Estimate
    half_life: Estimate
    early_rate: Estimate
    late_rate: Estimate
    elasticity_index: Estimate
    scores: tuple[Estimate, ...]
    retention: tuple[Estimate, ...]
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
            "scorer": curve.scorer,
            "seeds": len(curve.seeds),
            "prompts": len(curve.prompts),
        }
        for name in QUANTITIES:
            estimate: Estimate = getattr(self, name)
            row |= {
                name: estimate.value,
                f"{name}_low": estimate.low,
                f"{name}_high": estimate.high,
            }
        return row | {"note": self.note}


def index_rows(
    curves: Iterable[Curve], *, resamples: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """Return a row of the `indices` table for each curve, including curves without any score."""
    return [measure(curve, resamples, seed).row() for curve in curves]


def measure(curve: Curve, resamples: int = 1000, seed: int = 0) -> Measurement:
    """Measure every quantity of the curve. The same curve and `seed` give the same numbers.

    Raises `ElasticityError` for fewer than 40 `resamples`.
    """
    check_resamples(resamples)
    found: dict[str, Estimate] = dict.fromkeys(QUANTITIES, Estimate())
    notes = list(curve.notes)
    has_aligned = bool(curve.negatives) and curve.negatives[0] == 0
    undefined = retention = (Estimate(),) * len(curve.negatives)
    if not curve.prompts:
        return Measurement(
            curve, **found, scores=undefined, retention=undefined, notes=tuple(notes)
        )

    weights = draws(astuple(curve.key), len(curve.prompts), resamples, seed)
    scores = tuple(estimate(s) for s in (weights @ curve.by_prompt.T).T)
    if has_aligned:
        found["aligned"] = scores[0]
    if curve.base is not None:
        found["base"] = estimate(weights @ curve.base)
    if has_aligned and curve.base is not None:
        above, rounding = above_base(curve, weights)
        found["gap"] = gap = estimate(above[:, 0])
        if gap.value is None or gap.low is None or gap.high is None:
            notes.append("one prompt: no intervals, nothing beyond the gap")
        elif gap.low <= 0 <= gap.high:
            notes.append("gap within noise")
        else:
            sizes = np.array(curve.negatives, dtype=np.float64)
            retention, crossings = _retention(above), Crossings(above, sizes, rounding)
            (jackknife_weights,) = left_out([curve])
            jackknife = Crossings(above_base(curve, jackknife_weights)[0], sizes, rounding)
            found |= crossings.estimates(jackknife.bounds)
            notes += crossings.notes(found)
    return Measurement(curve, **found, scores=scores, retention=retention, notes=tuple(notes))


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
