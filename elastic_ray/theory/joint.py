"""Joint compression of several data sets, and their rates (Definitions 3.10-3.12), on trees.

A model that compresses the union of N data sets compresses one tree, whose weights are the
data sets' probabilities averaged by size (equation 4). Each data set's letters are then coded by
the joint tree's code: its rate is a cross-entropy (equation 7).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .rates import Rates, rates_from_savings
from .tree import Floats, ResponseTree, TreeError


def joint_tree(trees: Sequence[ResponseTree], sizes: Sequence[float]) -> ResponseTree:
    """The tree of the union: p = sum p_k |D_k| / sum |D_k| (equation 4), as deep as the deepest.

    `sizes` are |D_k|, on any scale, not negative and not all 0. Raises `TreeError` otherwise.
    """
    shares = _shares(trees, sizes)
    depth = max(tree.depth for tree in trees)
    mixed = np.zeros(1 << depth)
    for tree, share in zip(trees, shares, strict=True):
        mixed += share * tree.grow(depth).probabilities
    return ResponseTree(mixed)


def cross_entropies(trees: Sequence[ResponseTree], joint: ResponseTree) -> Floats:
    """[N] bits per response: sum -p_k log2 p of each data set's letters under the joint code.

    Infinite if a data set (of size 0, say) has letters that the joint tree has not.
    """
    q = joint.probabilities
    found = np.empty(len(trees))
    for n, tree in enumerate(trees):
        p = tree.grow(joint.depth).probabilities
        used = p > 0
        with np.errstate(divide="ignore"):
            found[n] = -(p[used] * np.log2(q[used])).sum()
    return found


def compression_rates(trees: Sequence[ResponseTree], sizes: Sequence[float]) -> Floats:
    """[N+1] bits per token: gamma of each data set (equation 7), then that of the union.

    The paper's Theta leaves a constant open; here it is 1 / d, as in equation 8.
    """
    joint = joint_tree(trees, sizes)
    bits = np.append(cross_entropies(trees, joint), joint.entropy())
    rates: Floats = bits / joint.depth
    return rates


def normalised_rates(trees: Sequence[ResponseTree], sizes: Sequence[float]) -> Floats:
    """[N]: each data set's rate, normalised (equation 8) by that of the union, on trees."""
    depth = max(tree.depth for tree in trees)
    rates = compression_rates(trees, sizes)[:-1]
    return normalise_rates(rates, sizes, uniform=(depth - 1) / depth)


def normalise_rates(
    rates: Sequence[float] | Floats, sizes: Sequence[float] | Floats, uniform: float
) -> Floats:
    """[..., N]: (gamma_k - uniform) / (gamma - uniform), equation 8, for rates from wherever.

    `rates`, of the same shape, are bits per token (or byte) of each data set under one model,
    `uniform` what a uniform code takes (log2(2^(d-1)) / d on trees, log2 of the vocabulary for a
    language model's tokens, 8 for bytes). The union's rate is the mean by size, as its texts are
    those of its parts. NaN where it is `uniform`.
    """
    above = np.asarray(rates, np.float64) - uniform
    weights = np.asarray(sizes, np.float64)
    union = np.asarray(above @ weights / weights.sum())[..., None]
    normalised: Floats = above / np.where(union == 0, np.nan, union)
    return normalised


def rates_on_trees(trees: Sequence[ResponseTree], sizes: Floats, perturbed: int = -1) -> Rates:
    """Savings, normalised rates and their exact derivatives in the size of one data set.

    For trees of one depth with all weight on the leaves (Assumption A.3); `sizes` is [..., N], the
    derivatives are per unit of it, in the size of data set `perturbed`. The errors are 0: on given
    trees everything is exact, to rounding.
    """
    first = trees[0].eos.size // 2
    for tree in trees:
        if tree.depth != trees[0].depth or tree.eos[:first].any():
            raise TreeError("trees of one depth are needed, with all weight on the leaves")
    leaves = np.array([tree.probabilities[first:] for tree in trees])
    sizes = np.asarray(sizes, np.float64)
    saving, slope = np.empty(sizes.shape), np.empty(sizes.shape)
    for row in np.ndindex(sizes.shape[:-1]):
        joint = _shares(trees, sizes[row]) @ leaves
        used = joint > 0
        if not used.all():
            if leaves[:, ~used].any():
                raise TreeError("a data set of size 0 has leaves that no other has")
            joint = np.where(used, joint, 1)
        saving[row] = leaves @ np.log(joint * first)
        # d log p / d|D_m| = (p_m / p - 1) / sum |D|
        slope[row] = (leaves @ (leaves[perturbed] / joint) - 1) / sizes[row].sum()
    return rates_from_savings(sizes, saving, slope, perturbed)


def _shares(trees: Sequence[ResponseTree], sizes: Sequence[float] | Floats) -> Floats:
    weights = np.asarray(sizes, np.float64)
    if not trees or weights.shape != (len(trees),):
        raise TreeError(f"{len(trees)} trees need as many sizes, not {weights.shape}")
    if not ((weights >= 0).all() and 0 < weights.sum() < np.inf):
        raise TreeError("sizes must be finite, not negative, and not all zero")
    shares: Floats = weights / weights.sum()
    return shares
