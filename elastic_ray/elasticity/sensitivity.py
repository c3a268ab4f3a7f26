"""How much the quantities of a curve depend on choices that are not the model's.

Each row measures the same scores under another choice: a shorter axis, another window, another
baseline, the scorer's errors taken out. Values only: the scores are the same, so an interval would
describe their noise and not the effect of the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from .curve import Curve
from .mean_draws import MeanDraws
from .quantities import QUANTITIES, draw_bounds, estimated

WINDOWS = (2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Variant:
    """The quantities of a curve under one choice; None where they are not defined."""

    choice: str
    quantities: Mapping[str, float | None]


def sensitivity(curve: Curve, others: tuple[Curve, ...] = ()) -> list[Variant]:
    """Return the curve as measured, then under other choices.

    `others` are curves of other models; their baselines are tried on this curve.
    """
    if not curve.prompts or curve.base is None or len(curve.negatives) < 2:
        return []
    return [Variant("as measured", _values(curve)), *_variants(curve, others)]


def _variants(curve: Curve, others: tuple[Curve, ...]) -> Iterator[Variant]:
    assert curve.base is not None
    half = curve.negatives[-1] / 2
    kept = [i for i, n in enumerate(curve.negatives) if n <= half]
    if len(kept) > 1:
        cut = replace(
            curve,
            negatives=tuple(curve.negatives[i] for i in kept),
            scores=curve.scores[:, kept],
        )
        yield Variant(f"sizes up to {cut.negatives[-1]:,} only", _values(cut))
    for window in WINDOWS:
        if window != curve.window:
            choice = f"window of {window:g} reversion sizes"
            yield Variant(choice, _values(replace(curve, window=window)))
    own = float(curve.base.mean())
    for other in others:
        if other.base is not None and other.prompts and other.key.task == curve.key.task:
            base = float(other.base.mean())
            moved = replace(curve, base=curve.base + (base - own), bases=None)
            yield Variant(f"baseline of {_name(other)} ({base:.3g})", _values(moved))
    if curve.errors is not None:
        low, high = curve.errors.limits
        if high > low:
            scale = 1 / (high - low)
            corrected = replace(
                curve,
                base=(curve.base - low) * scale,
                bases=None if curve.bases is None else (curve.bases - low) * scale,
                scores=(curve.scores - low) * scale,
                limits=(0.0, 1.0),
            )
            yield Variant("without the scorer's errors", _values(corrected))


def _name(curve: Curve) -> str:
    key = curve.key
    return key.model if key.pretrain is None else f"{key.model}/{key.pretrain:,}"


def _values(curve: Curve) -> dict[str, float | None]:
    assert curve.base is not None
    bounds, _ = draw_bounds(curve, MeanDraws(curve.mean[None], np.array([curve.base.mean()])))
    return {name: estimated(bounds[name]).value if name in bounds else None for name in QUANTITIES}
