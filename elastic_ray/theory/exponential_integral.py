"""Computes the generalised exponential integral E_p(x) = int_1^inf t^-p exp(-x t) dt, p > 0 real.

scipy has it for whole p only (`scipy.special.expn`), and its incomplete gamma function requires a
positive order. For x <= 1 this module uses the series of DLMF 8.19.10. Two of its terms diverge as
p nears a whole number; they are combined into one term that stays finite. For x > 1 it uses the
continued fraction of DLMF 8.19.17 by the modified Lentz method. The relative error is about 1e-14,
or about 1e-13 for x below 1e-100.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import zeta

Floats = NDArray[np.float64]

_TERMS = 24  # x^24 / 24! < 1e-23 for x <= 1
_STEPS = 200  # the continued fraction needs about 60 at x = 1
_TINY = 1e-300


def exponential_integral(p: float, x: Floats) -> Floats:
    """Return E_p(x), elementwise, for 0 < p <= 100 and x >= 0; infinite at x = 0 if p <= 1.

    Raises `ValueError` on any other p.
    """
    if not 0 < p <= 100:
        raise ValueError(f"p must be above 0 and at most 100, but is {p}")
    found = np.empty_like(x, dtype=np.float64)
    small = x <= 1
    found[small] = _series(p, x[small])
    found[~small] = _fraction(p, x[~small])
    return found


def _series(p: float, x: Floats) -> Floats:
    n = max(round(p), 1)
    eps = p - n
    with np.errstate(divide="ignore"):
        log_x = np.log(x)
    power = np.ones_like(x)  # (-x)^m / m!
    total = np.zeros_like(x)
    singular = np.ones_like(x)  # (-x)^(n-1) / (n-1)!
    for m in range(max(_TERMS, n)):
        if m == n - 1:
            singular = power
        else:
            total -= power / (1 - p + m)
        power = power * (-x / (m + 1))
    if n == 1 and eps < -0.25:
        # far from a whole order: Gamma(1-p) x^(p-1) and the term of m = 0 are both finite
        return total + math.gamma(1 - p) * np.exp((p - 1) * log_x) - 1 / (1 - p)
    # Gamma(1-p) x^(p-1) = -(-x)^(n-1) / (n-1)! / eps * exp(z), combined with the term of m = n-1
    if eps:
        z = eps * log_x + _log_gamma_1m(eps) - sum(math.log1p(eps / i) for i in range(1, n))
        joined = np.expm1(z) / eps
    else:
        joined = log_x + np.euler_gamma - sum(1 / i for i in range(1, n))
    with np.errstate(invalid="ignore"):
        term = np.where(singular == 0, 0.0, singular * joined)
    return np.asarray(total - term)


def _log_gamma_1m(eps: float) -> float:
    """Return log Gamma(1 - eps) for |eps| <= 1/2, to relative rounding error for small eps."""
    total = np.euler_gamma * eps
    for i in range(2, 60):
        total += float(zeta(i)) * eps**i / i
    return total


def _fraction(p: float, x: Floats) -> Floats:
    b = x + p
    c = np.full_like(x, 1 / _TINY)
    d = 1 / b
    h = d.copy()
    for i in range(1, _STEPS):
        a = -i * (p - 1 + i)
        b = b + 2
        d = 1 / (a * d + b)
        c = b + a / c
        step = c * d
        h *= step
        if np.all(np.abs(step - 1) < 1e-16):
            break
    return np.asarray(h * np.exp(-x))
