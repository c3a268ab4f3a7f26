"""Computes Theorem 3.13 on a grid of (alpha, k, l): signs, ratios, agreement of methods, limits.

These are the numbers of docs/theory.md, through `python -m elastic_ray.theory verdict`. Sizes are
(k, 1, l) with k = |D1| / |D2| and l = |D3| / |D2|. Slopes are derivatives in l.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .finite_tree import rates_on_finite_trees
from .limits import LargeKLimits, PrintedLimits, sign_change
from .monte_carlo import rates_by_monte_carlo
from .pareto import Pareto
from .quadrature import rates_by_quadrature
from .rates import Floats, Rates

ALPHAS = (1.5, 1.75, 2, 2.25, 2.5, 2.75, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20)
KS = tuple(float(f"{10 ** (1 + n / 5):.4g}") for n in range(26))
LS = tuple(float(f"{10 ** (-4 + n / 4):.4g}") for n in range(17))
"""The grid: alpha 1.5 to 20, k 10 to 10^6 (5 per decade), l 10^-4 to 1 (4 per decade)."""

ABSENT = (0.001, 0.01, 0.1, 0.5)
ABSENT_ALPHAS = (1.5, 3, 8, 20)
"""A second grid with the same k and l, for data sets without mass on a share of the leaves."""

AGREEMENT = tuple(
    (alpha, k, l) for alpha in (1.5, 2.5, 4, 8, 20) for k in (10, 1e3, 1e5) for l in (1e-3, 0.1, 1)
)
"""The points at which the three methods are compared."""

METHODS: dict[str, Callable[[Sequence[Pareto], Floats], Rates]] = {
    "quadrature": rates_by_quadrature,
    "monte_carlo": rates_by_monte_carlo,
    "trees": rates_on_finite_trees,
}


@dataclass(frozen=True)
class GridPoint:
    """The results of quadrature at one (alpha, absent, k, l); every slope has an error bound.

    `ratio` is gamma2_slope / (k gamma1_slope); equation 9 claims that it is of order one.
    `saving_ratio` is saving2_slope / (-k saving1_slope), the same ratio with the denominator of
    Definition 3.12 held fixed; it tends to one as l tends to 0. `return1_slope` and
    `return2_slope` are dS_1/dl and dS_2/dl if D3 has the distribution of D1 instead of its own.
    """

    alpha: float
    absent: float
    k: float
    l: float
    gamma1: float
    gamma2: float
    gamma1_slope: float
    gamma1_slope_error: float
    gamma2_slope: float
    gamma2_slope_error: float
    ratio: float
    saving1_slope: float
    saving1_slope_error: float
    saving2_slope: float
    saving2_slope_error: float
    saving_ratio: float
    return1_slope: float
    return1_slope_error: float
    return2_slope: float
    return2_slope_error: float


def grid(
    alphas: Iterable[float] = ALPHAS,
    ks: Iterable[float] = KS,
    ls: Iterable[float] = LS,
    absents: Iterable[float] = (0.0,),
) -> list[GridPoint]:
    """Return the points of a grid; l varies fastest, then k, then alpha."""
    points = []
    k, l = (axis.ravel() for axis in np.meshgrid(list(ks), list(ls), indexing="ij"))
    for absent, alpha in itertools.product(absents, alphas):
        law = Pareto(alpha, absent)
        own = rates_by_quadrature([law] * 3, np.stack([k, np.ones_like(k), l], axis=1))
        # If D3 has the distribution of D1, it enlarges D1: two data sets, the first perturbed.
        back = rates_by_quadrature([law] * 2, np.stack([k + l, np.ones_like(k)], axis=1), 0)
        columns = [
            np.full_like(k, alpha),
            np.full_like(k, absent),
            k,
            l,
            own.gamma[:, 0],
            own.gamma[:, 1],
            own.gamma_slope[:, 0],
            own.gamma_slope_error[:, 0],
            own.gamma_slope[:, 1],
            own.gamma_slope_error[:, 1],
            own.gamma_slope[:, 1] / (k * own.gamma_slope[:, 0]),
            own.saving_slope[:, 0],
            own.saving_slope_error[:, 0],
            own.saving_slope[:, 1],
            own.saving_slope_error[:, 1],
            own.saving_slope[:, 1] / (-k * own.saving_slope[:, 0]),
            back.saving_slope[:, 0],
            back.saving_slope_error[:, 0],
            back.saving_slope[:, 1],
            back.saving_slope_error[:, 1],
        ]
        points += [GridPoint(*row) for row in np.stack(columns, axis=1).tolist()]
    return points


def signs(points: Iterable[GridPoint], slope: str) -> tuple[int, int, int]:
    """Count the points at which `slope` is positive, negative, or within its error bound of 0."""
    values = [(getattr(p, slope), getattr(p, f"{slope}_error")) for p in points]
    positive = sum(value > error for value, error in values)
    negative = sum(value < -error for value, error in values)
    return positive, negative, len(values) - positive - negative


@dataclass(frozen=True)
class Comparison:
    """One quantity of one data set (1 or 2) at one point, by two methods with their errors.

    `apart` is the difference divided by the sum of both errors: the methods agree if it is at most
    one.
    """

    alpha: float
    k: float
    l: float
    quantity: str
    dataset: int
    quadrature: float
    quadrature_error: float
    method: str
    value: float
    error: float
    apart: float


def comparisons(points: Iterable[tuple[float, float, float]] = AGREEMENT) -> list[Comparison]:
    """Compare Monte Carlo and finite trees with quadrature: S, its slope, gamma, its slope."""
    rows = []
    requested = list(points)
    for alpha in dict.fromkeys(point[0] for point in requested):
        at_alpha = [point for point in requested if point[0] == alpha]
        sizes = np.array([(k, 1, l) for _, k, l in at_alpha])
        by_method = {name: method([Pareto(alpha)] * 3, sizes) for name, method in METHODS.items()}
        exact = by_method.pop("quadrature")
        for row, (_, k, l) in enumerate(at_alpha):
            for name, rates in by_method.items():
                for quantity in Rates.QUANTITIES:
                    for j in (0, 1):
                        a, e = _at(exact, quantity, row, j)
                        b, f = _at(rates, quantity, row, j)
                        apart = abs(a - b) / (e + f)
                        rows.append(
                            Comparison(alpha, k, l, quantity, j + 1, a, e, name, b, f, apart)
                        )
    return rows


def _at(rates: Rates, quantity: str, row: int, j: int) -> tuple[float, float]:
    value, error = getattr(rates, quantity), getattr(rates, f"{quantity}_error")
    return float(value[row, j]), float(error[row, j])


@dataclass(frozen=True)
class Limit:
    """Computed values at one alpha and large k, and their limits: derived here and as printed.

    `k_gamma1`, `k_gamma2`, `k2_saving1`, `k_saving2` and `k_total` are k or k^2 times the
    derivative in l of gamma_1, gamma_2, S_1, S_2 and H, at (`k`, l = 0). `*_limit` are this
    package's closed forms. `printed_*` are the paper's limits (equations 83, 86, 90, 93) in the
    same units. `inverse_ratio` is k gamma1' / gamma2', which the paper prints as a constant.
    `k_star` is the k at which gamma2' turns negative.
    """

    alpha: float
    k: float
    k_gamma1: float
    k_gamma1_limit: float
    k_gamma2: float
    k_gamma2_limit: float
    k2_saving1: float
    k2_saving1_limit: float
    printed_k2_saving1: float
    k_saving2: float
    k_saving2_limit: float
    printed_k_saving2: float
    k_total: float
    k_total_limit: float
    printed_k_total: float
    inverse_ratio: float
    printed_inverse_ratio: float
    gamma2: float
    gamma2_limit: float
    k_star: float | None


def limits(alphas: Iterable[float] = ALPHAS, k: float = 1e6) -> list[Limit]:
    """Return the closed forms and the computed values at `k`, for each alpha."""
    rows = []
    for alpha in alphas:
        law = Pareto(alpha)
        true, printed = LargeKLimits.of(law), PrintedLimits.of(law)
        rates = rates_by_quadrature([law] * 3, np.array([k, 1.0, 0.0]))
        total = (rates.saving[0] * k + rates.saving[1]) / (k + 1)
        rows.append(
            Limit(
                alpha=alpha,
                k=k,
                k_gamma1=k * float(rates.gamma_slope[0]),
                k_gamma1_limit=true.k_gamma1_slope,
                k_gamma2=k * float(rates.gamma_slope[1]),
                k_gamma2_limit=true.k_gamma2_slope,
                k2_saving1=k**2 * float(rates.saving_slope[0]),
                k2_saving1_limit=true.k2_saving1_slope,
                printed_k2_saving1=printed.k2_saving1_slope,
                k_saving2=k * float(rates.saving_slope[1]),
                k_saving2_limit=true.k_saving2_slope,
                printed_k_saving2=printed.k_saving2_slope,
                k_total=k * float(rates.saving[2] - total) / (k + 1),
                k_total_limit=true.k_total_slope,
                printed_k_total=printed.k2_total_slope / k,
                inverse_ratio=k * float(rates.gamma_slope[0] / rates.gamma_slope[1]),
                printed_inverse_ratio=printed.ratio,
                gamma2=float(rates.gamma[1]),
                gamma2_limit=true.gamma2,
                k_star=sign_change(alpha),
            )
        )
    return rows


def exponent(points: Sequence[GridPoint], name: str) -> float:
    """Return the power of k with which `name` changes over the last decade of k.

    `points` have one law and one l.
    """
    last = max(points, key=lambda p: p.k)
    before = min(points, key=lambda p: abs(math.log(p.k * 10 / last.k)))
    return math.log(abs(getattr(last, name) / getattr(before, name))) / math.log(last.k / before.k)


def columns(row_type: type[Any]) -> list[str]:
    """Return the names of a row's fields in order: the header of its CSV file."""
    return [field.name for field in fields(row_type)]
