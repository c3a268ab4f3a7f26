"""Closed forms of the continuum: no perturbation (l = 0), large k, light tails; the paper's limits.

All data sets have one Pareto law, as in Theorem 3.13. Sizes are (k, 1, l). For large k the savings
S_1 and S_2 tend to h = E[X log X] and g = E[log X] (equations 72 and 76).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mpmath
import numpy as np
from scipy.optimize import brentq

from .pareto import LawError, Pareto
from .quadrature import rates_by_quadrature
from .rates import Floats, Rates, rates_from_savings


def rates_without_perturbation(law: Pareto, k: float) -> Rates:
    """Return `Rates` at sizes (k, 1, 0), in terms of the hypergeometric function.

    log(X2 / X1) is the difference of two exponential variables. So all expectations are single
    integrals of u^a / (1 + k u) over (0, 1), which are 2F1(1, a+1; a+2; -k) / (a+1). The slope of
    S_3, the perturbed data set, is infinite for alpha <= 2. Raises `LawError` for a law with absent
    leaves, where S_3 is infinite.
    """
    _check_complete(law)
    a, c = law.alpha, law.scale
    base = math.log(c) - math.log1p(1 / k)
    # (r1, r2): exponential rates of log X1 and log X2 if X1, X2 or neither is drawn by mass
    saving = [base + 1 / r1 + _mean_log1p(r1, r2, k) for r1, r2 in ((a - 1, a), (a, a - 1), (a, a))]
    second = _mean_share(a, a, k) - 1 / (k + 1)
    if a > 2:
        # E[1 / (k X1 + X2)], with 1/X1 absorbed into the law of X1
        inverse = law.mean_inverse * (1 - _mean_share(a + 1, a, k)) / k
        third = law.mean_square * inverse - 1 / (k + 1)
    else:
        third = math.inf
    sizes = np.array([k, 1.0, 0.0])
    return rates_from_savings(sizes, np.array(saving), np.array([-second / k, second, third]))


def _check_complete(law: Pareto) -> None:
    if law.absent:
        raise LawError("closed forms need a law with mass at every leaf")


def _mean_share(r1: float, r2: float, k: float) -> float:
    """Return E[X2 / (k X1 + X2)] for log(X_i / c) exponential of rate r_i."""
    return float(r1 * r2 / (r1 + r2) * (_beta(r2 - 1, k) + _beta(r1, 1 / k) / k))


def _mean_log1p(r1: float, r2: float, k: float) -> float:
    """Return E[log(1 + X2 / (k X1))] for log(X_i / c) exponential of rate r_i, by parts."""
    right = (math.log1p(1 / k) + _beta(r2 - 1, k)) / r2
    left = (math.log1p(1 / k) - _beta(r1, 1 / k) / k) / r1
    return r1 * r2 / (r1 + r2) * (right + left)


def _beta(a: float, z: float) -> float:
    """Return int u^a / (1 + z u) du over (0, 1)."""
    # mpmath, because the error of scipy's hyp2f1 is up to 1e-7 near whole numbers a, and 1e-12
    # elsewhere at large z.
    return float(mpmath.hyp2f1(1, a + 1, a + 2, -z)) / (a + 1)


@dataclass(frozen=True)
class LargeKLimits:
    """Limits for large k, under the Pareto law of shape `alpha`.

    These hold at every fixed l:

    - `k_gamma1_slope`: k d gamma1/dl -> (h - g) / h;
    - `k_gamma2_slope`: k d gamma2/dl -> ((E[1/X] - 1) h + (h - g) g) / h^2, the sum of the two
      terms that equation 101 compares;
    - `k_saving2_slope`: k dS_2/dl -> E[1/X] - 1;
    - `k_total_slope`: k dH/dl -> g - h;
    - `gamma2` -> g / h (gamma1 tends to 1).

    This holds at l = 0 only:

    - `k2_saving1_slope`: k^2 dS_1/dl -> -(E[1/X] - 1). A fixed l adds -l (E[X^2] E[1/X] - 1). For
      alpha < 2, where X has no variance, a fixed l makes it grow like k^(2 - alpha).
    """

    alpha: float
    k_gamma1_slope: float
    k_gamma2_slope: float
    k2_saving1_slope: float
    k_saving2_slope: float
    k_total_slope: float
    gamma2: float

    @classmethod
    def of(cls, law: Pareto) -> LargeKLimits:
        """Return the limits for `law`. Raises `LawError` for absent leaves: they are infinite."""
        _check_complete(law)
        h, g, r = law.mean_x_log_x, law.mean_log, law.mean_inverse - 1
        return cls(
            alpha=law.alpha,
            k_gamma1_slope=(h - g) / h,
            k_gamma2_slope=(r * h + (h - g) * g) / h**2,
            k2_saving1_slope=-r,
            k_saving2_slope=r,
            k_total_slope=g - h,
            gamma2=g / h,
        )


@dataclass(frozen=True)
class PrintedLimits:
    """Limits for large k as the paper prints them, in the units of `LargeKLimits`.

    The printed values are multiplied by alpha^3 c^(3 alpha), with c = (alpha - 1) / alpha.
    `k2_saving1_slope` is equation 83, `k_saving2_slope` equation 86 and `k2_total_slope` equation
    90. `ratio` is equation 93, the limit claimed for k gamma1' / gamma2'.
    """

    alpha: float
    k2_saving1_slope: float
    k_saving2_slope: float
    k2_total_slope: float
    ratio: float

    @classmethod
    def of(cls, law: Pareto) -> PrintedLimits:
        """Return the printed limits for `law`."""
        a, c = law.alpha, law.scale
        unit = a**3 * c  # alpha^3 c^(3 alpha) over the c^(3 alpha - 1) of every denominator
        return cls(
            alpha=a,
            k2_saving1_slope=unit / (a**2 * (a - 1)),
            k_saving2_slope=unit / (a**2 * (a - 1) ** 2 * (a + 1)),
            k2_total_slope=unit * (a * math.log(c) - 1) / ((a - 1) ** 2 * a**2),
            ratio=a * (a + 1) * (1 - math.log(c)),
        )


def light_tail_rates(sizes: Floats) -> tuple[Floats, Floats]:
    """Return the limits of gamma and d gamma/d|D_N| as the masses' variance tends to 0, [..., N].

    This is alpha to infinity. To second order in the masses' deviations, and for every law,
    S_j = var (w_j - Q / 2) with w = |D_j| / sum |D| and Q = sum w^2. So gamma_j = 2 w_j / Q - 1.
    """
    sizes = np.asarray(sizes, np.float64)
    whole = sizes.sum(axis=-1, keepdims=True)
    square = (sizes**2).sum(axis=-1, keepdims=True)
    gamma = 2 * sizes * whole / square - 1
    own = np.zeros(sizes.shape[-1])
    own[-1] = 1  # the derivative of |D_j| in |D_N|
    slope = 2 * (own * whole + sizes) / square - 4 * sizes * whole * sizes[..., -1:] / square**2
    return gamma, slope


def critical_alpha() -> float:
    """Return the alpha above which d gamma2/dl is negative for all large k: its limit's root."""
    return float(brentq(lambda a: LargeKLimits.of(Pareto(a)).k_gamma2_slope, 2, 4, xtol=1e-13))


def sign_change(alpha: float, l: float = 0.0) -> float | None:
    """Return the k above which d gamma2/dl stays negative, by quadrature, or None without one.

    The search covers k up to 10^8.
    """

    def slopes(log_k: Floats) -> Floats:
        k = np.exp(log_k)
        sizes = np.stack([k, np.ones_like(k), np.full_like(k, l)], axis=-1)
        return k * rates_by_quadrature([Pareto(alpha)] * 3, sizes).gamma_slope[..., 1]

    steps = np.linspace(0.1, 8 * math.log(10), 60)
    rising = np.flatnonzero(slopes(steps) >= 0)
    if not rising.size or rising[-1] == steps.size - 1:
        return None
    last = int(rising[-1])
    root = brentq(lambda at: float(slopes(np.array(at))), steps[last], steps[last + 1], xtol=1e-10)
    return math.exp(float(root))
