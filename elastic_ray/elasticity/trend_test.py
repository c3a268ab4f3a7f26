"""Tests for a monotonic trend along sizes: Kendall's tau and its permutation p-value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .rows import ElasticityError, Floats


@dataclass(frozen=True)
class Trend:
    """Kendall's tau-b over `count` pairs; None if all pairs agree in one of the variables."""

    tau: float | None
    p_value: float | None
    count: int


def trend(
    sizes: Sequence[float | None],
    values: Sequence[float | None],
    *,
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
    permutations: int = 9999,
    seed: int = 0,
) -> Trend:
    """Return the trend of `values` along `sizes`; pairs with None are left out.

    None stands for an undefined or censored value. The p-value is exact if `permutations` allows
    all orders (7 pairs at 9999). The test treats the pairs as independent and free of error, so it
    ignores the intervals of `values`; leaving out censored values reduces its power. With few pairs
    the p-value cannot be small: the smallest two-sided value is 2 / count!.
    """
    # Imported here because it takes a second, and measuring curves does not need it.
    from scipy.stats import kendalltau, permutation_test

    if len(sizes) != len(values):
        raise ElasticityError(f"{len(sizes)} sizes and {len(values)} values; give one for each")
    pairs = [(x, y) for x, y in zip(sizes, values, strict=True) if x is not None and y is not None]
    x, y = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    if not np.isfinite([x, y]).all():
        raise ElasticityError("sizes and values must be finite, or None for undefined")
    if len(set(x)) < 2 or len(set(y)) < 2:
        return Trend(None, None, len(pairs))
    one, other = np.triu_indices(len(x), k=1)

    def concordance(order: Floats, axis: int = -1) -> Floats:
        # tau-b times a constant: its denominator is the same in every order of x.
        by = np.moveaxis(np.asarray(order), axis, -1)
        agree = np.sign(by[..., one] - by[..., other]) * np.sign(y[one] - y[other])
        total: Floats = agree.sum(axis=-1)
        return total

    tested = permutation_test(
        (x,),
        concordance,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=permutations,
        batch=1000,
        alternative=alternative,
        rng=np.random.default_rng(seed),
    )
    tau = float(kendalltau(x, y).statistic)
    return Trend(tau if math.isfinite(tau) else None, float(tested.pvalue), len(pairs))
