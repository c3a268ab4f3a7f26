"""Predicts from the theory what a sweep measures, at the same k and l.

The new data D3 are assumed either *independent* of D1 and D2, as in Theorem 3.13, or *like D1*, as
when an aligned model is trained back towards its pre-training (docs/theory.md). The shape alpha of
the mass law is unknown for real text, so each prediction is a range over alpha from 1.5 to 20.
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
"""Minimum and maximum over alpha."""


@dataclass(frozen=True)
class Prediction:
    """Predicted ratios of changes from l = 0 to one (k, l), each as a range over alpha.

    `slope_ratio` compares normalised rates: the change of D2's divided by the change of D1's, with
    an independent D3. The other two compare rates that are not normalised: the change of D1's
    divided by the change of D2's, with an independent D3 (`change_ratio_independent`) or a D3 like
    D1 (`change_ratio_alike`).
    """

    slope_ratio: Range
    change_ratio_independent: Range
    change_ratio_alike: Range


@lru_cache(maxsize=1024)
def predict(k: float, l: float) -> Prediction:
    """Return the predictions for sizes k : 1 : l. Raises `LawError` on invalid sizes."""
    # Changes are computed as mean slopes over [0, l]: subtracting two values would lose precision.
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    ls = l * (nodes + 1) / 2
    ones = np.ones_like(ls)
    slopes, independent, alike = [], [], []
    for alpha in ALPHAS:
        law = Pareto(alpha)
        separate = rates_by_quadrature([law] * 3, np.stack([k * ones, ones, ls], axis=1))
        # A D3 with the distribution of D1 is the same as a larger D1.
        merged = rates_by_quadrature([law] * 2, np.stack([k + ls, ones], axis=1), 0)
        gamma = weights @ separate.gamma_slope
        slopes.append(float(gamma[1] / gamma[0]))
        # A rate falls by as much as the saving rises, so the ratio of savings is that of rates.
        saving = weights @ separate.saving_slope
        independent.append(float(saving[0] / saving[1]))
        saving = weights @ merged.saving_slope
        alike.append(float(saving[0] / saving[1]))
    return Prediction(_range(slopes), _range(independent), _range(alike))


def _range(values: list[float]) -> Range:
    return min(values), max(values)
