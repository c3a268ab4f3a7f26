"""What the theory says of the points that a sweep measures, at the same k and l.

Two readings of the new data D3 (docs/theory.md): *independent* of D1 and D2, as Theorem 3.13 has
it, and *like D1*, as when an aligned model is trained back towards its pre-training. Every quantity
is a range over the masses' shape alpha, 1.5 to 20, which nobody knows of a real text.
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
"""Least and greatest over alpha."""


@dataclass(frozen=True)
class Prediction:
    """At one (k, l), against l = 0, each a range over alpha.

    `slopes` is D2's change of the normalised rate over D1's, D3 being independent. `share` is D1's
    change of the rate itself over D2's: `share_independent` and `share_alike`.
    """

    slopes: Range
    share_independent: Range
    share_alike: Range


@lru_cache(maxsize=1024)
def predict(k: float, l: float) -> Prediction:
    """The theory's numbers for sizes k : 1 : l; `LawError` unless k and l are positive."""
    # a change is the mean of the slopes between: a difference of values would lose digits
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    ls = l * (nodes + 1) / 2
    ones = np.ones_like(ls)
    slopes, apart, alike = [], [], []
    for alpha in ALPHAS:
        law = Pareto(alpha)
        own = rates_by_quadrature([law] * 3, np.stack([k * ones, ones, ls], axis=1))
        # D3 with the distribution of D1 makes D1 larger
        back = rates_by_quadrature([law] * 2, np.stack([k + ls, ones], axis=1), 0)
        gamma = weights @ own.gamma_slope
        slopes.append(float(gamma[1] / gamma[0]))
        # a rate falls by what the saving rises, so that the ratio is the same
        saving = weights @ own.saving_slope
        apart.append(float(saving[0] / saving[1]))
        saving = weights @ back.saving_slope
        alike.append(float(saving[0] / saving[1]))
    return Prediction(_range(slopes), _range(apart), _range(alike))


def _range(values: list[float]) -> Range:
    return min(values), max(values)
