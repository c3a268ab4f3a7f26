"""Predicts the points that a sweep measures from the theory, at the same k and l.

There are two assumptions about the new data D3 (docs/theory.md): *independent* of D1 and D2, as in
Theorem 3.13, or *like D1*, as when an aligned model is trained back towards its pre-training. Every
quantity is a range over the masses' shape alpha from 1.5 to 20, which is unknown for real text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .pareto import Pareto
from .quadrature import rates_by_quadrature

ALPHAS = (1.5, 2, 3, 5, 8, 20)
NODES = 12

Range = tuple[float, float]
"""Least and greatest value over alpha."""


@dataclass(frozen=True)
class Prediction:
    """Predicted ratios of changes from l = 0 to one (k, l), each as a range over alpha.

    `slope_ratio` is D2's change of the normalised rate divided by D1's, if D3 is independent.
    `change_ratio_independent` and `change_ratio_alike` are D1's change of the rate itself divided
    by D2's, if D3 is independent or like D1.
    """

    slope_ratio: Range
    change_ratio_independent: Range
    change_ratio_alike: Range


@lru_cache(maxsize=1024)
def predict(k: float, l: float) -> Prediction:
    """Return the predictions for sizes k : 1 : l. Raises `LawError` on invalid sizes."""
    # A change is the mean slope between the two sizes: a difference of values would lose digits.
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    ls = l * (nodes + 1) / 2
    ones = np.ones_like(ls)
    slopes, independent, alike = [], [], []
    for alpha in ALPHAS:
        law = Pareto(alpha)
        own = rates_by_quadrature([law] * 3, np.stack([k * ones, ones, ls], axis=1))
        # D3 with the distribution of D1 makes D1 larger
        back = rates_by_quadrature([law] * 2, np.stack([k + ls, ones], axis=1), 0)
        gamma = weights @ own.gamma_slope
        slopes.append(float(gamma[1] / gamma[0]))
        # A rate falls by as much as the saving rises, so the ratio is the same.
        saving = weights @ own.saving_slope
        independent.append(float(saving[0] / saving[1]))
        saving = weights @ back.saving_slope
        alike.append(float(saving[0] / saving[1]))
    return Prediction(_range(slopes), _range(independent), _range(alike))


def _range(values: list[float]) -> Range:
    return min(values), max(values)
