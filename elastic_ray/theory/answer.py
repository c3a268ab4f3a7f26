"""*Does fine-tuning undo alignment k times faster than it undoes pre-training?* In words.

What is said is told from the intervals alone. The theory's slopes are those at l = 0, so each curve
is read at the smallest negative size at which it shows anything. The same sentences and rows stand
in the app and in the report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from .measured import CurvePoint, Interval, MeasuredLengths
from .prediction import predict

QUESTION = "Does fine-tuning undo alignment k times faster than it undoes pre-training?"
NOT_UNDONE, LESS, K_TIMES, MORE = "not undone", "less than k", "k", "more than k"
"""What an interval says of how many times faster: see `times_faster`."""

_MIXED = "Not in general: some intervals hold k, some lie to one side of it."
_SHORT: Mapping[frozenset[str], str] = {
    frozenset(): "No answer: alignment is not undone beyond noise at any size.",
    frozenset({LESS}): "No: less than k times as fast, in every curve.",
    frozenset({K_TIMES}): "Perhaps: every interval holds k, which says as much as it is narrow.",
    frozenset({MORE}): "More than that: more than k times as fast, in every curve.",
}

CodeLengthCurve: TypeAlias = tuple[MeasuredLengths, Sequence[CurvePoint]]


def first_clear_point(points: Sequence[CurvePoint]) -> CurvePoint:
    """The point of the smallest negative size at which D2 loses beyond noise, else of the smallest.

    Being the first that is clear, its change is rather too large than too small.
    """
    sizes = [point for point in points if point.negative]
    return next((point for point in sizes if point.change[1].sign == 1), sizes[0])


def times_faster(point: CurvePoint) -> Interval | None:
    """How many times as much a byte of D2 loses as one of D1 changes, either way.

    None where D2 does not lose beyond noise. An end is infinite where D1 may not change at all.
    """
    if point.change[1].sign != 1 or point.share is None:
        return None
    ends = sorted((abs(point.share.low), abs(point.share.high)))
    least = 0.0 if point.share.low <= 0 <= point.share.high else ends[0]
    return Interval(_inverse(abs(point.share.value)), _inverse(ends[1]), _inverse(least))


def verdict_label(point: CurvePoint, k: float) -> str:
    """`NOT_UNDONE`, `LESS`, `K_TIMES` (the interval holds k) or `MORE`."""
    found = times_faster(point)
    if found is None:
        return NOT_UNDONE
    return LESS if found.high < k else MORE if found.low > k else K_TIMES


def answer_question(curves: Sequence[CodeLengthCurve]) -> list[str]:
    """Sentences on all curves of a sweep, the answer first; empty where there are none."""
    if not curves:
        return []
    at = [(coded, first_clear_point(points)) for coded, points in curves]
    found = [verdict_label(point, coded.k) for coded, point in at]
    clear = [(c, p, t) for c, p in at if (t := times_faster(p)) is not None]
    sentences = [_SHORT.get(frozenset(found) - {NOT_UNDONE}, _MIXED)]
    if clear:
        changes = [point.change[0] for _, point, _ in clear]
        sentences += [
            "At the smallest negative size at which alignment texts (D2) take more bits beyond "
            f"noise (l = {_span([p.l for _, p, _ in clear])}), a byte of them loses "
            f"{_span([t.value for _, _, t in clear])} times as much as a byte of pre-training text "
            f"(D1) changes; k is {_span([c.k for c, _, _ in clear])}. Of {len(at)} curves, the 95% "
            f"interval lies below k in {found.count(LESS)}, holds k in {found.count(K_TIMES)}, and "
            f"lies above it in {found.count(MORE)}; in {found.count(NOT_UNDONE)} alignment is not "
            "undone beyond noise at any size.",
            _pretraining([change.sign for change in changes]),
            _normalised([(coded, point) for coded, point, _ in clear]),
        ]
    return sentences


def _pretraining(signs: Sequence[int]) -> str:
    gained, lost = signs.count(-1), signs.count(1)
    means = ""
    if gained == len(signs):
        means = " So this fine-tuning does not undo pre-training: it brings it back."
    return (
        f"There D1 itself is coded worse in {lost} curves, better in {gained}, and no different "
        f"beyond noise in {signs.count(0)}.{means}"
    )


def _normalised(at: Sequence[tuple[MeasuredLengths, CurvePoint]]) -> str:
    known = [(coded, point, point.slopes.value) for coded, point in at if point.slopes]
    if not known:
        return "The slopes of the normalised rates have no ratio beyond noise."
    theory = [end for coded, point, _ in known for end in predict(coded.k, point.l).slopes]
    return (
        "Normalised (Definition 3.12), D2's slope over D1's is "
        f"{_span([slope / coded.k for coded, _, slope in known])} times k; the theory of "
        f"independent data has a ratio of {_span(theory)}. A ratio near -k is no finding: by "
        "definition k gamma1 + gamma2 + l gamma3 = k + 1 + l, and gamma3 is near 1 where all rates "
        "lie close to each other and far from the uniform code, as here."
    )


def curve_rows(curves: Sequence[CodeLengthCurve], labels: Sequence[str]) -> list[dict[str, Any]]:
    """A row per curve and negative size above 0, for tables: intervals are three columns.

    `label` is the curve's of `labels`. An end that is not bounded is None, and so is a quantity
    that is undefined. `theory_*` and `theory_slopes_*` are the ranges of `prediction`: how many
    times faster if D3 is like D1, and the ratio of normalised slopes if it is independent.
    """
    found = []
    for (coded, points), label in zip(curves, labels, strict=True):
        for point in points:
            if not point.negative:
                continue
            theory = predict(coded.k, point.l)
            alike = sorted(_inverse(abs(end)) for end in theory.share_alike)
            measured = {
                "pretrain_rate": point.rate[0],
                "positive_rate": point.rate[1],
                "negative_rate": point.rate[2],
                "pretrain_change": point.change[0],
                "positive_change": point.change[1],
                "negative_change": point.change[2],
                "times": times_faster(point),
                "slopes": point.slopes,
            }
            found.append(
                {
                    "label": label,
                    "positive": coded.positive,
                    "negative": point.negative,
                    "k": coded.k,
                    "l": point.l,
                    **{
                        f"{name}{end}": _bounded(value, part)
                        for name, value in measured.items()
                        for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
                    },
                    "said": verdict_label(point, coded.k),
                    "theory_low": alike[0],
                    "theory_high": alike[1],
                    "theory_slopes_low": theory.slopes[0],
                    "theory_slopes_high": theory.slopes[1],
                }
            )
    return found


def _bounded(interval: Interval | None, part: str) -> float | None:
    value = math.nan if interval is None else float(getattr(interval, part))
    return value if math.isfinite(value) else None


def _inverse(value: float) -> float:
    return 1 / value if value else math.inf


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
