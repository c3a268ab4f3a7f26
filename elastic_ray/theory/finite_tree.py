"""Savings and rates of Pareto data sets on finite trees, each computed exactly (equation 7).

A data set's tree has the Pareto law cut into equal shares for its leaves' probabilities
(`Pareto.equal_bins`), in an order of its own: the masses' law is met as well as M = 2^(d-1) leaves
allow. The orders are those of the coordinates of a scrambled Sobol' net, each of which visits
every M-th part of the unit line once: the data sets are as nearly independent as M leaves allow
(Remark A.7). On such trees the rates and their derivatives are sums, without approximation.

They differ from the continuum in two ways, and the error covers both: the draw of the orders, by
a 99.9% half-width over scramblings, and the finite M. A tree cannot resolve what happens within
the heaviest M-th part of the leaves, which holds the share M^-(1 - 1/alpha) of the mass. So the
change from M/2 to M leaves about 1 / (2^(1 - 1/alpha) - 1) times itself to come; twice that is
added. Where such leaves are heavy enough to outweigh all other data sets there (alpha <= 2, large
k / l) no tree in reach shows it: to the slopes a bound of that part is added (`_unresolved`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc  # type: ignore[import-untyped]

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
    """`Rates` of N independent data sets on trees of `depth` layers; `sizes` is [B, N]."""
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
            # gamma's slope has S's over H, which is S over gamma
            unit = 1 if name == "saving_slope" else np.abs(fine.gamma / fine.saving)
            error = error + unit * _unresolved(laws[m], sizes, m, 1 << (depth - 1))
        errors.append(error)
    return Rates(*values, *errors)


def _unresolved(law: Pareto, sizes: Floats, m: int, leaves: int) -> Floats:
    """[B, N]: a bound of how far E[X_j X_m / W] moves as X_m takes its mean on the heaviest leaf.

    Only the part that is not linear in X_m moves: X_j X_m / (c A) min(1, X_m / b) at most, with
    A = sum |D| and b = c A / |D_m|; for j = m, X_m / |D_m| min(1, X_m / b). Where leaves may be
    absent, W has no such least value: X_m / |D_j| then.
    """
    a, c = law.alpha, law.scale
    q = float(law.quantile(np.array(1 / leaves)))
    reach = c * sizes.sum(axis=1)
    with np.errstate(divide="ignore"):
        if law.absent:
            alone: Floats = law.present * a / (a - 1) * c**a * q ** (1 - a) / sizes
            return alone
        b = np.maximum(reach / sizes[:, m], q)
        # E[X^2 / b; q < X < b] + E[X; X > b], the first with z = (2 - alpha) log(b / q)
        span = np.log(b / q)
        part = np.expm1((2 - a) * span) / (2 - a) if a != 2 else span
        above = a * c**a * q ** (2 - a) * part / b + (c / b) ** (a - 1)
        bound = np.repeat((above / reach)[:, None], sizes.shape[1], axis=1)
        bound[:, m] = above / sizes[:, m]
    return bound


def independent_trees(
    laws: Sequence[Pareto], depth: int, seed: Sequence[int]
) -> list[ResponseTree]:
    """One tree of each law, all weight on the deepest layer, in the orders of a Sobol' net."""
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
    found = [
        rates_on_trees(independent_trees(laws, depth, [seed, repetition]), sizes, m)
        for repetition in range(repetitions)
    ]
    savings = np.array([rates.saving for rates in found])
    return estimate_rates(sizes, savings, np.array([rates.saving_slope for rates in found]), m)
