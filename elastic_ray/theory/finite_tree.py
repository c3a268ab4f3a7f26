"""Computes savings and rates of Pareto data sets on finite trees, leaf by leaf (equation 7).

The leaf probabilities of each data set are the M = 2^(d-1) equal bins of its Pareto law
(`Pareto.equal_bins`), so they follow the law as closely as M leaves allow. Each data set has its
own order of leaves: one coordinate of a scrambled Sobol' net, which has one point in each interval
of length 1/M. The data sets are therefore as nearly independent as M leaves allow (Remark A.7). On
such trees the rates and their derivatives are exact sums.

The results differ from the continuum for two reasons, and the error covers both:

- random orders: the error includes a 99.9% half-width over scramblings;
- finite M: a tree cannot resolve the heaviest 1/M of the leaves, which holds the share
  M^-(1 - 1/alpha) of the mass. The remaining change is estimated as 1 / (2^(1 - 1/alpha) - 1) times
  the change between M/2 and M leaves. Twice the estimate is added to the error.

If those leaves are heavy enough to outweigh all other data sets (alpha <= 2, large k / l), no
feasible tree resolves them. A bound on their contribution is therefore added to the error of the
slopes (`_unresolved`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc

from .joint import rates_on_trees
from .monte_carlo import estimate_rates
from .pareto import Pareto
from .rates import Floats, Rates
from .tree import ResponseTree


def rates_on_finite_trees(
    laws: Sequence[Pareto],
    sizes: Floats,
    perturbed: int = -1,
    *,
    depth: int = 18,
    repetitions: int = 8,
    seed: int = 0,
) -> Rates:
    """Return `Rates` of N independent data sets, computed on trees of `depth` layers.

    `sizes` is [B, N]; the derivatives are with respect to the size of data set `perturbed`. `seed`
    determines the scramblings of the `repetitions` sets of trees.
    """
    sizes = np.asarray(sizes, np.float64)
    m = perturbed % len(laws)
    coarse = _on_trees(laws, sizes, m, depth - 1, repetitions, seed)
    fine = _on_trees(laws, sizes, m, depth, repetitions, seed + 1)
    beta = 1 - 1 / min(law.alpha for law in laws)
    values, errors = [], []
    for name in Rates.QUANTITIES:
        value = getattr(fine, name)
        change = np.abs(value - getattr(coarse, name))
        values.append(value)
        error = getattr(fine, f"{name}_error") + 2 * change / (2**beta - 1)
        if name.endswith("slope"):
            # The slope of gamma contains (slope of S) / H, and H = S / gamma.
            factor = 1 if name == "saving_slope" else np.abs(fine.gamma / fine.saving)
            error = error + factor * _unresolved(laws[m], sizes, m, 1 << (depth - 1))
        errors.append(error)
    return Rates(*values, *errors)


def _unresolved(law: Pareto, sizes: Floats, m: int, leaves: int) -> Floats:
    """Bound the error [B, N] of E[X_j X_m / W] when the heaviest leaf has the mean X_m of its bin.

    W is sum |D_i| X_i. Only the part that is not linear in X_m changes. It changes by at most
    X_j X_m / (c A) min(1, X_m / b), where A = sum |D_i| and b = c A / |D_m|. For j = m it changes
    by at most X_m / |D_m| min(1, X_m / b). These bounds use W >= c A. If leaves may be absent, W
    has no such minimum, and the bound is X_m / |D_j|.
    """
    a, c = law.alpha, law.scale
    q = float(law.quantile(np.array(1 / leaves)))
    least = c * sizes.sum(axis=1)  # the minimum c A of W
    with np.errstate(divide="ignore"):
        if law.absent:
            absent_bound: Floats = law.present * a / (a - 1) * c**a * q ** (1 - a) / sizes
            return absent_bound
        b = np.maximum(least / sizes[:, m], q)
        # E[X^2 / b; q < X < b] + E[X; X > b]; the first term uses z = (2 - alpha) log(b / q)
        span = np.log(b / q)
        part = np.expm1((2 - a) * span) / (2 - a) if a != 2 else span
        above = a * c**a * q ** (2 - a) * part / b + (c / b) ** (a - 1)
        bound = np.repeat((above / least)[:, None], sizes.shape[1], axis=1)
        bound[:, m] = above / sizes[:, m]
    return bound


def independent_trees(
    laws: Sequence[Pareto], depth: int, seed: Sequence[int]
) -> list[ResponseTree]:
    """Return one tree per law, all mass on its leaves, in an order from a scrambled Sobol' net."""
    leaves = 1 << (depth - 1)
    net = qmc.Sobol(len(laws), rng=np.random.default_rng(seed)).random_base2(depth - 1)
    orders = (net * leaves).astype(np.intp).T
    return [
        ResponseTree.from_leaves(law.equal_bins(leaves)[order])
        for law, order in zip(laws, orders, strict=True)
    ]


def _on_trees(
    laws: Sequence[Pareto], sizes: Floats, m: int, depth: int, repetitions: int, seed: int
) -> Rates:
    repeated = [
        rates_on_trees(independent_trees(laws, depth, [seed, repetition]), sizes, m)
        for repetition in range(repetitions)
    ]
    savings = np.array([rates.saving for rates in repeated])
    return estimate_rates(sizes, savings, np.array([rates.saving_slope for rates in repeated]), m)
