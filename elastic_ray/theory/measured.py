"""Measured code lengths beside the theory: how a state's rates move as fine-tuning undoes it.

A sweep's state saw |D1| pre-training, |D2| positive, then |D3| negative examples; k = |D1| / |D2|
and l = |D3| / |D2| as in Theorem 3.13. What it codes is held-out texts of each distribution. The
*rate* of data set j is gamma_j, bits per byte of its texts (Definition 3.11); against a
uniform code of 8 bits a byte it is normalised by that of the union (Definition 3.12).

Intervals are 95%, percentiles of a bootstrap that draws texts (within each distribution, the same
for all states) and seeds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..spec import CORPORA
from .joint import normalise_rates
from .rates import Floats

UNIFORM = 8.0
"""Bits per byte of the code that knows nothing of the texts."""
LEVEL = 0.95

_Curve: TypeAlias = tuple[str, str, int, int]


class MeasuredError(ValueError):
    """Code lengths that make no curve; the message says which."""


@dataclass(frozen=True)
class Interval:
    """A measured value and its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies on that side of 0, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


@dataclass(frozen=True, eq=False)
class MeasuredLengths:
    """The code lengths of one curve, text by text.

    `bits[j]` is [seeds, sizes, texts of data set j], `bytes[j]` [texts]; `negatives` are the sizes,
    0 first, that every seed has.
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
    """What is measured of a curve at one negative size; tuples are by data set, D1 first.

    `rate` is in bits per byte, `gamma` normalised. Against l = 0: `change` of the rate, `slope` of
    gamma by l. `share` is D1's change over D2's, `slopes` D2's slope over D1's; both None at l = 0,
    and where the interval of what is divided by holds 0.
    """

    negative: int
    l: float
    rate: tuple[Interval, ...]
    gamma: tuple[Interval, ...]
    change: tuple[Interval, ...]
    slope: tuple[Interval, ...]
    share: Interval | None
    slopes: Interval | None


def gather_code_lengths(rows: Iterable[Mapping[str, Any]]) -> list[MeasuredLengths]:
    """The curves in rows of the view `code_length_rows`, of one sweep, in order.

    Curves of models without a pre-training size have no k, those with no negative size nothing to
    compare: both are left out, as are sizes that a seed lacks. Raises `MeasuredError` where states
    of one curve were asked of different texts.
    """
    found: defaultdict[_Curve, dict[Any, dict[int, tuple[float, float]]]]
    found = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["pretrain"] and row["positive"]:
            curve = (row["task"], row["model"], row["pretrain"], row["positive"])
            place = (row["seed"], row["negative"], row["kind"])
            found[curve][place][row["example"]] = (row["bits"], row["bytes"])
    made = (_coded(curve, places) for curve, places in sorted(found.items()))
    return [curve for curve in made if curve is not None]


def _coded(
    curve: _Curve, places: Mapping[Any, Mapping[int, tuple[float, float]]]
) -> MeasuredLengths | None:
    whole = {(seed, size) for seed, size, _ in places}
    whole = {at for at in whole if all((*at, kind) in places for kind in CORPORA)}
    seeds = sorted({seed for seed, size in whole if size == 0})
    sizes = sorted({size for _, size in whole})
    sizes = [size for size in sizes if all((seed, size) in whole for seed in seeds)]
    if not seeds or len(sizes) < 2:
        return None
    bits, lengths = [], []
    for kind in CORPORA:
        texts = sorted(places[seeds[0], 0, kind])
        every = [[places[seed, size, kind] for size in sizes] for seed in seeds]
        if any(sorted(here) != texts for row in every for here in row):
            raise MeasuredError(f"{curve}: the states were asked of different {kind} texts")
        bits.append(np.array([[[at[i][0] for i in texts] for at in row] for row in every]))
        lengths.append(np.array([every[0][0][i][1] for i in texts], np.float64))
    return MeasuredLengths(*curve, tuple(sizes), tuple(seeds), tuple(bits), tuple(lengths))


def measure_code_lengths(
    coded: MeasuredLengths, resamples: int = 1000, seed: int = 0
) -> list[CurvePoint]:
    """The curve's points, negative sizes ascending from 0."""
    rates = _rates(coded, resamples, seed)
    ls = np.array(coded.negatives) / coded.positive
    gammas = np.empty_like(rates)
    for i, l in enumerate(ls.tolist()):
        gammas[:, i] = normalise_rates(rates[:, i], [coded.k, 1.0, l], UNIFORM)
    points = []
    for i, l in enumerate(ls.tolist()):
        change = rates[:, i] - rates[:, 0]
        slope = (gammas[:, i] - gammas[:, 0]) / (l or math.nan)
        points.append(
            CurvePoint(
                negative=coded.negatives[i],
                l=l,
                rate=_each(rates[:, i]),
                gamma=_each(gammas[:, i]),
                change=_each(change),
                slope=_each(slope),
                share=_ratio(change[:, 0], change[:, 1]) if l else None,
                slopes=_ratio(slope[:, 1], slope[:, 0]) if l else None,
            )
        )
    return points


def _rates(coded: MeasuredLengths, resamples: int, seed: int) -> Floats:
    """[1 + resamples, sizes, data sets] bits per byte; the first are the data themselves."""
    rng = np.random.default_rng(seed)
    seeds = _draws(rng, len(coded.seeds), resamples)
    rates = []
    for bits, lengths in zip(coded.bits, coded.bytes, strict=True):
        texts = _draws(rng, len(lengths), resamples)
        by_seed = np.einsum("rt,snt->rsn", texts, bits)
        rates.append(np.einsum("rs,rsn->rn", seeds, by_seed) / (texts @ lengths)[:, None])
    found: Floats = np.stack(rates, axis=-1)
    return found


def _draws(rng: np.random.Generator, count: int, resamples: int) -> Floats:
    """[1 + resamples, count] weights that sum to 1: equal ones, then draws with replacement."""
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples) / count
    return np.concatenate([np.full((1, count), 1 / count), drawn])


def _each(values: Floats) -> tuple[Interval, ...]:
    return tuple(interval(values[:, j]) for j in range(values.shape[1]))


def interval(values: Floats) -> Interval:
    """Of the value itself, then resamples of it [1 + resamples]."""
    if not np.isfinite(values).all():
        return Interval(math.nan, math.nan, math.nan)
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(values[0]), float(low), float(high))


def _ratio(above: Floats, below: Floats) -> Interval | None:
    if not interval(below).sign:
        return None
    return interval(above / below)
