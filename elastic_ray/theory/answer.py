"""Answers in sentences: *does fine-tuning undo alignment k times faster than pre-training?*

The sentences depend on the intervals only. The theory's slopes are those at l = 0, so each curve is
read at the smallest negative size with a clear change. The app and the report show the same
sentences and rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from .measured import CurvePoint, Interval, MeasuredLengths
from .prediction import predict

QUESTION = "Does fine-tuning undo alignment k times faster than it undoes pre-training?"
NOT_UNDONE, LESS, K_TIMES, MORE = "not undone", "less than k", "k", "more than k"
"""What an interval shows about the number of times faster: see `verdict_label`."""

_MIXED = "Not in general: some intervals contain k, others lie above or below it."
_SHORT: Mapping[frozenset[str], str] = {
    frozenset(): "No answer: alignment is not undone beyond noise at any size.",
    frozenset({LESS}): "No: in every curve it is less than k times as fast.",
    frozenset({K_TIMES}): (
        "Possibly: every interval contains k. Only narrow intervals are evidence for it."
    ),
    frozenset({MORE}): "Faster than that: in every curve it is more than k times as fast.",
}

CodeLengthCurve: TypeAlias = tuple[MeasuredLengths, Sequence[CurvePoint]]
"""A curve's code lengths, and the points of `measure_code_lengths`."""


def first_clear_point(points: Sequence[CurvePoint]) -> CurvePoint:
    """Return the point at the smallest negative size at which D2 loses beyond noise.

    Return the smallest negative size if there is none. The change of the first clear point is
    biased upwards, because its selection depends on its size.
    """
    sizes = [point for point in points if point.negative]
    return next((point for point in sizes if point.change[1].sign == 1), sizes[0])


def times_faster(point: CurvePoint) -> Interval | None:
    """Return D2's loss per byte divided by the size of D1's change per byte.

    None if D2 does not lose beyond noise. An end is infinite if D1's change may be 0.
    """
    ratio = point.change_ratio
    if point.change[1].sign != 1 or ratio is None:
        return None
    ends = sorted((abs(ratio.low), abs(ratio.high)))
    least = 0.0 if ratio.low <= 0 <= ratio.high else ends[0]
    return Interval(_inverse(abs(ratio.value)), _inverse(ends[1]), _inverse(least))


def verdict_label(point: CurvePoint, k: float) -> str:
    """Return `NOT_UNDONE`, `LESS`, `K_TIMES` (the interval contains k) or `MORE`."""
    ratio = times_faster(point)
    if ratio is None:
        return NOT_UNDONE
    return LESS if ratio.high < k else MORE if ratio.low > k else K_TIMES


def answer_question(curves: Sequence[CodeLengthCurve]) -> list[str]:
    """Return sentences on all curves of a sweep, the answer first; empty without curves."""
    if not curves:
        return []
    at = [(lengths, first_clear_point(points)) for lengths, points in curves]
    labels = [verdict_label(point, lengths.k) for lengths, point in at]
    clear = [(c, p, t) for c, p in at if (t := times_faster(p)) is not None]
    sentences = [_SHORT.get(frozenset(labels) - {NOT_UNDONE}, _MIXED)]
    if clear:
        changes = [point.change[0] for _, point, _ in clear]
        sentences += [
            "Each curve is read at the smallest negative size at which alignment texts (D2) take "
            f"more bits beyond noise (l = {_span([p.l for _, p, _ in clear])}). There a byte of D2 "
            f"loses {_span([t.value for _, _, t in clear])} times as much as a byte of "
            f"pre-training text (D1) changes; k is {_span([c.k for c, _, _ in clear])}. Of "
            f"{len(at)} curves, the 95% interval is below k in {labels.count(LESS)}, contains k in "
            f"{labels.count(K_TIMES)} and is above k in {labels.count(MORE)}; in "
            f"{labels.count(NOT_UNDONE)} alignment is not undone beyond noise at any size.",
            _pretraining([change.sign for change in changes]),
            _normalised([(lengths, point) for lengths, point, _ in clear]),
        ]
    return sentences


def _pretraining(signs: Sequence[int]) -> str:
    gained, lost = signs.count(-1), signs.count(1)
    conclusion = ""
    if gained == len(signs):
        conclusion = " So this fine-tuning does not undo pre-training: it brings it back."
    return (
        f"At that size D1 itself takes more bits in {lost} curves, fewer in {gained}, and shows no "
        f"change beyond noise in {signs.count(0)}.{conclusion}"
    )


def _normalised(at: Sequence[tuple[MeasuredLengths, CurvePoint]]) -> str:
    known = [(c, p, p.slope_ratio.value) for c, p in at if p.slope_ratio]
    if not known:
        return "The slopes of the normalised rates have no ratio beyond noise."
    theory = [end for lengths, point, _ in known for end in predict(lengths.k, point.l).slope_ratio]
    return (
        "With normalised rates (Definition 3.12), D2's slope divided by D1's is "
        f"{_span([slope / lengths.k for lengths, _, slope in known])} times k. The theory of "
        f"independent data predicts a ratio of {_span(theory)}. A ratio near -k is not a finding: "
        "by definition k gamma1 + gamma2 + l gamma3 = k + 1 + l, and gamma3 is near 1 if all rates "
        "are close to each other and far from the uniform code, as here."
    )


def curve_rows(curves: Sequence[CodeLengthCurve], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row per curve and negative size above 0, for tables.

    An interval takes three columns: NAME, NAME_low and NAME_high. `label` is the curve's entry in
    `labels`. An undefined quantity and an unbounded end are None. `said` is the `verdict_label`.
    `theory_*` is the predicted range of `times` if D3 is like D1, and `theory_slopes_*` that of
    `slopes` if D3 is independent (see `prediction`).
    """
    rows = []
    for (lengths, points), label in zip(curves, labels, strict=True):
        for point in points:
            if not point.negative:
                continue
            theory = predict(lengths.k, point.l)
            alike = sorted(_inverse(abs(end)) for end in theory.change_ratio_alike)
            measured = {
                "pretrain_rate": point.rate[0],
                "positive_rate": point.rate[1],
                "negative_rate": point.rate[2],
                "pretrain_change": point.change[0],
                "positive_change": point.change[1],
                "negative_change": point.change[2],
                "times": times_faster(point),
                "slopes": point.slope_ratio,
            }
            rows.append(
                {
                    "label": label,
                    "positive": lengths.positive,
                    "negative": point.negative,
                    "k": lengths.k,
                    "l": point.l,
                    **{
                        f"{name}{end}": _bounded(value, part)
                        for name, value in measured.items()
                        for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
                    },
                    "said": verdict_label(point, lengths.k),
                    "theory_low": alike[0],
                    "theory_high": alike[1],
                    "theory_slopes_low": theory.slope_ratio[0],
                    "theory_slopes_high": theory.slope_ratio[1],
                }
            )
    return rows


def _bounded(interval: Interval | None, part: str) -> float | None:
    value = math.nan if interval is None else float(getattr(interval, part))
    return value if math.isfinite(value) else None


def _inverse(value: float) -> float:
    return 1 / value if value else math.inf


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
