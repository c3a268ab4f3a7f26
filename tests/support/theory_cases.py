"""Hypothesis strategies and builders for the tests of the theory."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from elastic_ray.theory import Pareto, Rates, Responses, ResponseTree, rates_by_quadrature

ALPHA = st.floats(1.3, 25)
K = st.floats(0, 6).map(lambda x: 10**x)
L = st.floats(-4, 0).map(lambda x: 10**x)
RESPONSE = st.text("01", max_size=9)
DATA = st.lists(RESPONSE, min_size=1, max_size=40)
DEPTH = st.integers(1, 8)


def rates(alpha: float, *sizes: float, perturbed: int = -1) -> Rates:
    """Return the rates of independent data sets of these sizes under one Pareto law."""
    return rates_by_quadrature([Pareto(alpha)] * len(sizes), np.array(sizes), perturbed)


def tree_of(texts: list[str], depth: int) -> ResponseTree:
    """Return the tree of responses written in 0 and 1."""
    return ResponseTree.from_responses(Responses.from_strings(texts), depth)


def leaf_trees(count: int, depth: int, seed: int) -> list[ResponseTree]:
    """Return random trees with all weight on the leaves, none of it 0."""
    rng = np.random.default_rng(seed)
    return [
        ResponseTree.from_leaves(rng.gamma(1.0, size=1 << (depth - 1)) + 0.01) for _ in range(count)
    ]
