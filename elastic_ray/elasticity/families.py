"""Parametric families of curves: how a score may decline as negative examples are added.

All families are functions of x = n / scale(p) with scale(p) = scale (p / p0)^growth, where p0 is
the geometric mean of the positive sizes. More positive examples thus stretch or shrink a curve
uniformly. For given shape parameters, a score is linear in the remaining parameters: one start per
positive size, and levels or slopes that all curves share. These are solved for exactly (variable
projection: Golub and Pereyra, 1973), and only the shape is searched for.

| family | score | phases |
|---|---|---|
| exponential | floor + (start - floor) e^-x | one |
| Weibull | floor + (start - floor) e^-(x^steepness) | one, after a shoulder if steep |
| Hill | floor + (start - floor) / (1 + x^steepness) | one, after a shoulder if steep |
| two exponentials | floor + (start - floor) (w e^-x + (1 - w) e^(-x / ratio)) | early and late |
| exponential, then logarithm | floor + (start - floor) e^-x - late log(1 + x) | early and late |
| Hill, then logarithm | Hill - late log(1 + x^steepness) / steepness | early and late |
| broken line in log | start - early min(z, b) - late max(z - b, 0) | early and late |

In the broken line, z = log(1 + n / (p / p0)^growth). It breaks at the scale: b = log(1 + scale).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .rows import Floats

Named: TypeAlias = Mapping[str, float] | Mapping[str, Floats]
"""Shape parameters by name: numbers, or arrays [..., 1] for many fits at once."""


@dataclass(frozen=True)
class Shape:
    """A shape parameter, searched for from `starts` within `bounds`, in logarithms if `log`."""

    name: str
    starts: tuple[float, ...]
    bounds: tuple[float, float]
    log: bool = False


@dataclass(frozen=True)
class Family:
    """A family of curves with linear and shape parameters.

    `columns(n, stretch, shape)` takes n and stretch [..., cells] and the shape parameters by name.
    It returns (share [..., cells], shared [..., cells, levels]). A score is
    start(p) * share + shared @ levels.
    """

    name: str
    phases: int
    levels: tuple[str, ...]
    shapes: tuple[Shape, ...]
    columns: Callable[[Floats, Floats, Named], tuple[Floats, Floats]]


SCALE = "scale"
GROWTH = Shape("growth", (0.0,), (-3.0, 3.0))
"""The power of the positive size with which the scale grows; needs several positive sizes."""


def _exponential(n: Floats, stretch: Floats, at: Named) -> tuple[Floats, Floats]:
    left = np.exp(-n / (at[SCALE] * stretch))
    return left, (1 - left)[..., None]


def _weibull(n: Floats, stretch: Floats, at: Named) -> tuple[Floats, Floats]:
    left = np.exp(-((n / (at[SCALE] * stretch)) ** at["steepness"]))
    return left, (1 - left)[..., None]


def _hill(n: Floats, stretch: Floats, at: Named) -> tuple[Floats, Floats]:
    left = 1 / (1 + (n / (at[SCALE] * stretch)) ** at["steepness"])
    return left, (1 - left)[..., None]


def _hill_then_log(n: Floats, stretch: Floats, at: Named) -> tuple[Floats, Floats]:
    far = (n / (at[SCALE] * stretch)) ** at["steepness"]
    left = 1 / (1 + far)
    return left, np.stack([1 - left, -np.log1p(far) / at["steepness"]], axis=-1)


def _two(n: Floats, stretch: Floats, at: Named) -> tuple[Floats, Floats]:
    x = n / (at[SCALE] * stretch)
    left = at["early share"] * np.exp(-x) + (1 - at["early share"]) * np.exp(-x / at["ratio"])
    return left, (1 - left)[..., None]


def _then_log(n: Floats, stretch: Floats, at: Named) -> tuple[Floats, Floats]:
    x = n / (at[SCALE] * stretch)
    left = np.exp(-x)
    return left, np.stack([1 - left, -np.log1p(x)], axis=-1)


def _broken(n: Floats, stretch: Floats, at: Named) -> tuple[Floats, Floats]:
    z = np.log1p(n / stretch)
    b = np.log1p(at[SCALE])
    return np.ones_like(z), np.stack([-np.minimum(z, b), -np.maximum(z - b, 0)], axis=-1)


def families(largest: float) -> tuple[Family, ...]:
    """Return the families, with bounds for negative sizes up to `largest`."""

    def scale(*shares: float) -> Shape:
        starts = tuple(largest * share for share in shares)
        return Shape(SCALE, starts, (largest / 1000, 3 * largest), log=True)

    steepness = Shape("steepness", (1.0, 2.5), (0.3, 8.0), log=True)
    return (
        Family("exponential", 1, ("floor",), (scale(0.05, 0.3),), _exponential),
        Family("Weibull", 1, ("floor",), (scale(0.05, 0.3), steepness), _weibull),
        Family("Hill", 1, ("floor",), (scale(0.05, 0.3), steepness), _hill),
        Family(
            "two exponentials",
            2,
            ("floor",),
            (
                scale(0.03, 0.15),
                Shape("early share", (0.6,), (0.05, 0.95)),
                Shape("ratio", (10.0,), (2.0, 200.0), log=True),
            ),
            _two,
        ),
        Family(
            "exponential, then logarithm",
            2,
            ("floor", "late"),
            (scale(0.03, 0.15),),
            _then_log,
        ),
        Family(
            "Hill, then logarithm",
            2,
            ("floor", "late"),
            (scale(0.05, 0.3), steepness),
            _hill_then_log,
        ),
        Family(
            "broken line in log",
            2,
            ("early", "late"),
            (scale(0.05, 0.2, 0.5),),
            _broken,
        ),
    )
