"""Computes joint compression of data sets and their rates (Definitions 3.10-3.12), on trees.

A model that compresses the union of N data sets compresses one joint tree. Its weights are the
data sets' probabilities, averaged by size (equation 4). The joint tree's code also codes the
letters of each data set, so a data set's rate is a cross-entropy (equation 7).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .rates import Rates, rates_from_savings
from .tree import Floats, ResponseTree, TreeError


def joint_tree(trees: Sequence[ResponseTree], sizes: Sequence[float]) -> ResponseTree:
    """Return the tree of the union: p = sum p_k |D_k| / sum |D_k| (equation 4).

    It is as deep as the deepest of `trees`. `sizes` are |D_k|, on any scale. Raises `TreeError` if
    there is not one size per tree, or a size is not finite, is negative, or all are 0.
    """
    shares = _shares(trees, sizes)
    depth = max(tree.depth for tree in trees)
    mixed = np.zeros(1 << depth)
    for tree, share in zip(trees, shares, strict=True):
        mixed += share * tree.grow(depth).probabilities
    return ResponseTree(mixed)


def cross_entropies(trees: Sequence[ResponseTree], joint: ResponseTree) -> Floats:
    """Return the cost of each data set's letters under the joint code, [N] bits per response.

    It is sum -p_k log2 p, and infinite if a data set (for example one of size 0) has letters that
    the joint tree lacks.
    """
    q = joint.probabilities
    bits = np.empty(len(trees))
    for n, tree in enumerate(trees):
        p = tree.grow(joint.depth).probabilities
        used = p > 0
        with np.errstate(divide="ignore"):
            bits[n] = -(p[used] * np.log2(q[used])).sum()
    return bits


def compression_rates(trees: Sequence[ResponseTree], sizes: Sequence[float]) -> Floats:
    """Return gamma of each data set (equation 7), then that of the union: [N+1] bits per token.

    The paper's Theta leaves a constant open. Here it is 1 / d, as in equation 8.
    """
    joint = joint_tree(trees, sizes)
    bits = np.append(cross_entropies(trees, joint), joint.entropy())
    rates: Floats = bits / joint.depth
    return rates


def normalised_rates(trees: Sequence[ResponseTree], sizes: Sequence[float]) -> Floats:
    """Return each data set's rate [N] on trees, normalised by the union's (equation 8)."""
    depth = max(tree.depth for tree in trees)
    rates = compression_rates(trees, sizes)[:-1]
    return normalise_rates(rates, sizes, uniform=(depth - 1) / depth)


def normalise_rates(
    rates: Sequence[float] | Floats, sizes: Sequence[float] | Floats, uniform: float
) -> Floats:
    """Return (gamma_k - uniform) / (gamma - uniform), equation 8, for rates of any origin.

    `rates` [..., N] are bits per token (or byte) of each data set under one model. `uniform` is
    the rate of a uniform code: log2(2^(d-1)) / d on trees, log2 of the vocabulary size for tokens
    of a language model, 8 for bytes. The union consists of the texts of its parts, so its rate is
    their mean by size. The result [..., N] is NaN where the union's rate equals `uniform`.
    """
    above = np.asarray(rates, np.float64) - uniform
    weights = np.asarray(sizes, np.float64)
    union = np.asarray(above @ weights / weights.sum())[..., None]
    normalised: Floats = above / np.where(union == 0, np.nan, union)
    return normalised


def rates_on_trees(trees: Sequence[ResponseTree], sizes: Floats, perturbed: int = -1) -> Rates:
    """Return savings, normalised rates and their exact derivatives in the size of one data set.

    The trees must have one depth and all weight on the leaves (Assumption A.3). `sizes` is
    [..., N]. The derivatives are in the size of data set `perturbed`, in the unit of `sizes`. The
    errors are 0: on given trees everything is exact up to rounding. Raises `TreeError` if trees
    and sizes do not fit.
    """
    first = trees[0].eos.size // 2
    for tree in trees:
        if tree.depth != trees[0].depth or tree.eos[:first].any():
            raise TreeError("the trees must have one depth and all weight on the leaves")
    leaves = np.array([tree.probabilities[first:] for tree in trees])
    sizes = np.asarray(sizes, np.float64)
    saving, slope = np.empty(sizes.shape), np.empty(sizes.shape)
    for row in np.ndindex(sizes.shape[:-1]):
        joint = _shares(trees, sizes[row]) @ leaves
        used = joint > 0
        if not used.all():
            if leaves[:, ~used].any():
                raise TreeError("a data set of size 0 has leaves that no other data set has")
            joint = np.where(used, joint, 1)
        saving[row] = leaves @ np.log(joint * first)
        # d log p / d|D_m| = (p_m / p - 1) / sum |D|
        slope[row] = (leaves @ (leaves[perturbed] / joint) - 1) / sizes[row].sum()
    return rates_from_savings(sizes, saving, slope, perturbed)


def _shares(trees: Sequence[ResponseTree], sizes: Sequence[float] | Floats) -> Floats:
    weights = np.asarray(sizes, np.float64)
    if not trees or weights.shape != (len(trees),):
        raise TreeError(
            f"{len(trees)} trees need one size each, but the sizes have shape {weights.shape}"
        )
    if not ((weights >= 0).all() and 0 < weights.sum() < np.inf):
        raise TreeError("sizes must be finite, not negative, and not all zero")
    shares: Floats = weights / weights.sum()
    return shares
