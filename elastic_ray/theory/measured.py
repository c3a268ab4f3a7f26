"""Computes rates, changes and slopes from the code lengths that a sweep measured.

A sweep's state was trained on |D1| pre-training, |D2| positive and |D3| negative examples, with
k = |D1| / |D2| and l = |D3| / |D2| as in Theorem 3.13. It codes held-out texts of each
distribution. The *rate* of data set j is gamma_j, in bits per byte of its texts (Definition 3.11).
The normalised rate compares with a uniform code of 8 bits per byte, and with the rate of the union
(Definition 3.12).

Intervals are 95% percentile intervals of a bootstrap that draws texts (within each distribution,
the same texts for all states) and seeds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .joint import normalise_rates
from .rates import Floats

UNIFORM = 8.0
"""Rate of a uniform code (bits per byte)."""
LEVEL = 0.95
"""Confidence level of the intervals."""

_CurveKey: TypeAlias = tuple[str, str, int, int]


class MeasuredError(ValueError):
    """Code lengths that do not fit into one curve; the message names the curve."""


@dataclass(frozen=True)
class Interval:
    """A measured value and its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval lies on that side of 0, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


@dataclass(frozen=True, eq=False)
class MeasuredLengths:
    """The measured code lengths of one curve, text by text.

    `bits[j]` is [seeds, sizes, texts of data set j], `bytes[j]` is [texts]. `negatives` are the
    negative sizes that every seed has, starting with 0.
    """

    task: str
    model: str
    pretrain: int
    positive: int
    negatives: tuple[int, ...]
    seeds: tuple[int, ...]
    bits: tuple[Floats, ...]
    bytes: tuple[Floats, ...]

    @property
    def k(self) -> float:
        """|D1| / |D2|."""
        return self.pretrain / self.positive


@dataclass(frozen=True)
class CurvePoint:
    """The measurements of a curve at one negative size; tuples are by data set, D1 first.

    `rate` is in bits per byte, `gamma` is the normalised rate. Two values compare with l = 0:
    `change` is the difference of the rate, `slope` the difference of gamma divided by l.
    `change_ratio` is D1's change divided by D2's, `slope_ratio` is D2's slope divided by D1's. Both
    are None at l = 0, and if the interval of the divisor contains 0.
    """

    negative: int
    l: float
    rate: tuple[Interval, ...]
    gamma: tuple[Interval, ...]
    change: tuple[Interval, ...]
    slope: tuple[Interval, ...]
    change_ratio: Interval | None
    slope_ratio: Interval | None


def gather_code_lengths(
    rows: Iterable[Mapping[str, Any]], corpora: Sequence[str]
) -> list[MeasuredLengths]:
    """Return the curves in rows of the view `code_length_rows` of one sweep, sorted.

    `corpora` are the values of the column `kind` for D1, D2 and D3 (`spec.CORPORA`).

    Curves of models without a pre-training size have no k, and curves without a negative size have
    nothing to compare: both are left out. So are negative sizes that a seed lacks. Raises
    `MeasuredError` if the states of a curve coded different texts.
    """
    found: defaultdict[_CurveKey, dict[Any, dict[int, tuple[float, float]]]]
    found = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["pretrain"] and row["positive"]:
            curve = (row["task"], row["model"], row["pretrain"], row["positive"])
            place = (row["seed"], row["negative"], row["kind"])
            found[curve][place][row["example"]] = (row["bits"], row["bytes"])
    gathered = (_gather_curve(curve, places, corpora) for curve, places in sorted(found.items()))
    return [curve for curve in gathered if curve is not None]


def _gather_curve(
    curve: _CurveKey,
    places: Mapping[Any, Mapping[int, tuple[float, float]]],
    corpora: Sequence[str],
) -> MeasuredLengths | None:
    """Return one curve; `places` is keyed by (seed, negative size, distribution)."""
    complete = {(seed, size) for seed, size, _ in places}
    complete = {at for at in complete if all((*at, kind) in places for kind in corpora)}
    seeds = sorted({seed for seed, size in complete if size == 0})
    sizes = sorted({size for _, size in complete})
    sizes = [size for size in sizes if all((seed, size) in complete for seed in seeds)]
    if not seeds or len(sizes) < 2:
        return None
    bits, lengths = [], []
    for kind in corpora:
        texts = sorted(places[seeds[0], 0, kind])
        by_seed = [[places[seed, size, kind] for size in sizes] for seed in seeds]
        if any(sorted(coded) != texts for row in by_seed for coded in row):
            task, model, pretrain, positive = curve
            raise MeasuredError(
                f"task {task}, model {model}, pre-training size {pretrain}, positive size "
                f"{positive}: its states coded different {kind} texts"
            )
        bits.append(np.array([[[coded[i][0] for i in texts] for coded in row] for row in by_seed]))
        lengths.append(np.array([by_seed[0][0][i][1] for i in texts], np.float64))
    return MeasuredLengths(*curve, tuple(sizes), tuple(seeds), tuple(bits), tuple(lengths))


def measure_code_lengths(
    lengths: MeasuredLengths, resamples: int = 1000, seed: int = 0
) -> list[CurvePoint]:
    """Return the points of a curve, by ascending negative size from 0.

    The bootstrap draws `resamples` times with `seed`.
    """
    rates = _bootstrap_rates(lengths, resamples, seed)
    ls = np.array(lengths.negatives) / lengths.positive
    gammas = np.empty_like(rates)
    for i, l in enumerate(ls.tolist()):
        gammas[:, i] = normalise_rates(rates[:, i], [lengths.k, 1.0, l], UNIFORM)
    points = []
    for i, l in enumerate(ls.tolist()):
        change = rates[:, i] - rates[:, 0]
        slope = (gammas[:, i] - gammas[:, 0]) / (l or math.nan)
        points.append(
            CurvePoint(
                negative=lengths.negatives[i],
                l=l,
                rate=_intervals(rates[:, i]),
                gamma=_intervals(gammas[:, i]),
                change=_intervals(change),
                slope=_intervals(slope),
                change_ratio=_ratio(change[:, 0], change[:, 1]) if l else None,
                slope_ratio=_ratio(slope[:, 1], slope[:, 0]) if l else None,
            )
        )
    return points


def _bootstrap_rates(lengths: MeasuredLengths, resamples: int, seed: int) -> Floats:
    """Return bits per byte [1 + resamples, sizes, data sets], first of the data, then resampled."""
    rng = np.random.default_rng(seed)
    seeds = _draw_weights(rng, len(lengths.seeds), resamples)
    rates = []
    for bits, sizes in zip(lengths.bits, lengths.bytes, strict=True):
        texts = _draw_weights(rng, len(sizes), resamples)
        by_seed = np.einsum("rt,snt->rsn", texts, bits)
        rates.append(np.einsum("rs,rsn->rn", seeds, by_seed) / (texts @ sizes)[:, None])
    stacked: Floats = np.stack(rates, axis=-1)
    return stacked


def _draw_weights(rng: np.random.Generator, count: int, resamples: int) -> Floats:
    """Return weights [1 + resamples, count] that sum to 1: equal ones, then bootstrap draws."""
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples) / count
    return np.concatenate([np.full((1, count), 1 / count), drawn])


def _intervals(values: Floats) -> tuple[Interval, ...]:
    return tuple(interval(values[:, j]) for j in range(values.shape[1]))


def interval(values: Floats) -> Interval:
    """Return the interval of [1 + resamples] values, of which the first is the value itself."""
    if not np.isfinite(values).all():
        return Interval(math.nan, math.nan, math.nan)
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(values[0]), float(low), float(high))


def _ratio(dividend: Floats, divisor: Floats) -> Interval | None:
    if not interval(divisor).sign:
        return None
    return interval(dividend / divisor)
