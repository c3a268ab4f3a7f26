"""Computes savings and rates of Pareto data sets by quadrature, with bounds (equations 31-42).

The triple integrals over Pareto densities reduce to single integrals by Frullani's integral
log(W/A) = int (exp(-s A) - exp(-s W)) ds / s and 1/W = int exp(-s W) ds, since the Laplace
transform of a sum of independent masses is a product. With W = sum a_i X_i, A = sum a_i,

    S_j            = int (exp(-s A) - E[X_j e^(-s a_j X_j)] prod_(i != j) E[e^(-s a_i X_i)]) ds / s
    E[X_j X_m / W] = int  E[X_j e^(-s a_j X_j)] E[X_m e^(-s a_m X_m)] prod_(i != j, m) ... ds
    dS_j / d|D_m|  = E[X_j X_m / W] - 1 / A        (W and A of the sizes themselves)

In u = log s the integrands are analytic in a strip and decay at both ends, so the trapezoidal rule
converges geometrically (Trefethen and Weideman, 2014). The error bound is the sum of three parts:
the change on halving the step (with geometric convergence far above the remaining error), the two
tails that are cut off, and rounding. Tests compare these bounds with closed forms (`limits`) and
with the other methods. They are not interval arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .pareto import LawError, Pareto
from .rates import Floats, Rates, rates_from_savings

STEP = 0.125
_ROUNDING = 16 * np.finfo(np.float64).eps
"""Relative error of an integrand's value. Near alpha = 1.4 the transforms were off by 7 eps."""


def rates_by_quadrature(laws: Sequence[Pareto], sizes: Floats, perturbed: int = -1) -> Rates:
    """Return `Rates` of N independent data sets with mass laws `laws` [N].

    `sizes` is [..., N], not negative and on any scale; each combination gets its own rates. The
    derivatives are in the size of data set `perturbed`, in the unit of `sizes`. Its own derivative
    dS_m/d|D_m| is infinite if its size is 0 and its law has no variance (alpha <= 2). Raises
    `LawError` if sizes are negative, not finite, all zero or do not fit the laws.
    """
    sizes = np.asarray(sizes, np.float64)
    count = len(laws)
    if sizes.ndim == 0 or sizes.shape[-1] != count or not (sizes >= 0).all():
        raise LawError(f"sizes must not be negative, and their last axis must be {count} long")
    m = perturbed % count
    flat = sizes.reshape(-1, count)
    scale = flat.max(axis=1, keepdims=True)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise LawError("sizes must be finite and not all zero")
    shares = flat / scale
    nodes, decay = _nodes(laws, shares)
    whole = shares.sum(axis=1)
    plain, once = _transforms(laws, nodes, shares, 0), _transforms(laws, nodes, shares, 1)
    twice = _transforms(laws[m : m + 1], nodes, shares[:, m : m + 1], 2)[0]

    saving, saving_error = np.empty(flat.shape), np.empty(flat.shape)
    slope, slope_error = np.empty(flat.shape), np.empty(flat.shape)
    uniform = np.exp(-nodes * whole[:, None])
    for j in range(count):
        factors = [once[i] if i == j else plain[i] for i in range(count)]
        saving[:, j], saving_error[:, j] = _integral(uniform, np.prod(factors, axis=0), decay)
        factors[m] = twice if j == m else once[m]
        with np.errstate(invalid="ignore"):  # infinite if D_m has size 0 and X_m no variance
            value, error = _integral(np.prod(factors, axis=0) * nodes, None, decay)
        slope[:, j] = (value - 1 / whole) / scale[:, 0]
        slope_error[:, j] = (error + _ROUNDING / whole) / scale[:, 0]
    slope, slope_error = _largest_by_identity(flat, slope, slope_error)
    shape = sizes.shape
    return rates_from_savings(
        sizes,
        saving.reshape(shape),
        slope.reshape(shape),
        perturbed,
        saving_error.reshape(shape),
        slope_error.reshape(shape),
    )


def _nodes(laws: Sequence[Pareto], shares: Floats) -> tuple[Floats, float]:
    """Return s at equal steps of log s, and the power of s by which integrands vanish at 0."""
    decay = min(1.0, *(law.alpha - 1 for law in laws))
    # exp(-s W) must have vanished at the last node. W is at least the least mass of the largest
    # data set, or, if its leaves may be absent, the least mass of any data set.
    absent = any(law.absent for law in laws)
    least = shares[shares > 0].min() if absent else 1.0
    last = np.log(45 / (least * min(law.scale for law in laws)))
    first = max(-40 / decay, -650.0)
    count = 2 * int(np.ceil((last - first) / STEP / 2)) + 1
    return np.exp(last - STEP * np.arange(count)[::-1]), decay


def _transforms(laws: Sequence[Pareto], nodes: Floats, shares: Floats, power: int) -> list[Floats]:
    """Return E[X^power exp(-s a X)] for each law, [combinations, nodes]; each distinct a once."""
    tables = []
    for law, share in zip(laws, shares.T, strict=True):
        distinct, index = np.unique(share, return_inverse=True)
        tables.append(law.transform(distinct[:, None] * nodes, power)[index])
    return tables


def _integral(first: Floats, less: Floats | None, decay: float) -> tuple[Floats, Floats]:
    """Return int (first - less) du by the trapezoidal rule, and its error bound, for each row."""
    values = first if less is None else first - less
    size = abs(first) if less is None else abs(first) + abs(less)
    fine = STEP * values.sum(axis=1)
    coarse = 2 * STEP * values[:, ::2].sum(axis=1)
    tails = abs(values[:, 0]) / decay + abs(values[:, -1])
    return fine, abs(fine - coarse) + tails + _ROUNDING * STEP * size.sum(axis=1)


def _largest_by_identity(sizes: Floats, slope: Floats, error: Floats) -> tuple[Floats, Floats]:
    """Replace the largest data set's slope by the one from sum |D_j| dS_j = 0.

    That slope falls like 1/k^2, but the integral computes it as a difference of terms that fall
    like 1/k: at k = 10^6 six digits would be lost.
    """
    rows = np.arange(len(sizes))
    largest = sizes.argmax(axis=1)
    others = sizes.copy()
    others[rows, largest] = 0
    # A data set of size 0 adds nothing, even if its own slope is infinite (size * slope -> 0).
    terms = np.where(others > 0, others * np.where(others > 0, slope, 0), 0)
    bounds = np.where(others > 0, others * np.where(others > 0, error, 0), 0)
    slope, error = slope.copy(), error.copy()
    slope[rows, largest] = -terms.sum(axis=1) / sizes[rows, largest]
    error[rows, largest] = bounds.sum(axis=1) / sizes[rows, largest]
    return slope, error
