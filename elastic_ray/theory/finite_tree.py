"""Savings and rates of Pareto data sets on finite trees, each computed exactly (equation 7).

A data set's tree has the Pareto law cut into equal shares for its leaves' probabilities
(`Pareto.equal_bins`), in an order of its own drawn at random: the masses' law is met as well as
M = 2^(d-1) leaves allow, and the data sets are independent but for the draw of the orders
(Remark A.7). On such trees the rates and their derivatives are sums, without approximation.

They differ from the continuum in two ways, and the error covers both: the draw of the orders, by
a 99.9% half-width over repetitions, and the finite M. The share of mass that the M-th part of the
leaves holds, M^-(1 - 1/alpha), is what a tree cannot resolve, so the change from M/2 to M leaves
1 / (2^(1 - 1/alpha) - 1) times itself to come; that much is added.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .joint import rates_on_trees
from .monte_carlo import estimate
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
    """`Rates` of N independent data sets on random trees of `depth` layers; `sizes` is [B, N]."""
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
        errors.append(getattr(fine, f"{name}_error") + change / (2**beta - 1))
    return Rates(*values, *errors)


def random_trees(laws: Sequence[Pareto], depth: int, rng: np.random.Generator) -> list[ResponseTree]:
    """One tree of each law, all weight on the deepest layer, the leaves in random order."""
    leaves = 1 << (depth - 1)
    return [ResponseTree.from_leaves(rng.permutation(law.equal_bins(leaves))) for law in laws]


def _on_trees(
    laws: Sequence[Pareto], sizes: Floats, m: int, depth: int, repetitions: int, seed: int
) -> Rates:
    savings, slopes = [], []
    for repetition in range(repetitions):
        trees = random_trees(laws, depth, np.random.default_rng([seed, repetition]))
        found = [rates_on_trees(trees, list(size), m) for size in sizes]
        savings.append([rates.saving for rates in found])
        slopes.append([rates.saving_slope for rates in found])
    return estimate(sizes, np.array(savings), np.array(slopes), m)
