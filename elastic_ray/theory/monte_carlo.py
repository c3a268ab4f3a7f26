"""Computes savings and rates of Pareto data sets by Monte Carlo, with confidence intervals.

Masses are drawn by inversion from scrambled Sobol' points (Owen, 1995). The scramblings are
independent, so the spread of their means gives a standard error, however much the net gains over
independent draws. A factor X_j is absorbed into the law: E[X f(X)] is E[f] under the mass-biased
law, a Pareto law of shape alpha - 1. This bounds the integrands of the derivatives, because
1 / W <= 1 / (c sum |D|), while X_j X_m / W itself may have no variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc, t

from .pareto import Pareto
from .rates import Floats, Rates, rates_from_savings

LEVEL = 0.999
"""Confidence level: an error is a half-width, which one in a thousand deviations exceeds."""


def rates_by_monte_carlo(
    laws: Sequence[Pareto],
    sizes: Floats,
    perturbed: int = -1,
    *,
    log2_points: int = 15,
    scramblings: int = 16,
    seed: int = 0,
) -> Rates:
    """Return `Rates` of N independent data sets from `scramblings` times 2^log2_points draws.

    `sizes` is [B, N]; all B combinations use the same draws. The derivatives are in the size of
    data set `perturbed`. Errors are 99.9% half-widths by Student's t over scramblings.
    """
    sizes = np.asarray(sizes, np.float64)
    m = perturbed % len(laws)
    savings, slopes = [], []
    for scrambling in range(scramblings):
        points = qmc.Sobol(len(laws), rng=np.random.default_rng([seed, scrambling]))
        upper = 1 - points.random_base2(log2_points)  # in (0, 1]
        saving, slope = _means(laws, upper.T, sizes, m)
        savings.append(saving)
        slopes.append(slope)
    return estimate_rates(sizes, np.array(savings), np.array(slopes), m)


def _means(laws: Sequence[Pareto], upper: Floats, sizes: Floats, m: int) -> tuple[Floats, Floats]:
    plain = [law.quantile(u) for law, u in zip(laws, upper, strict=True)]
    biased = [law.biased_quantile(u) for law, u in zip(laws, upper, strict=True)]
    saving, slope = np.empty(sizes.shape), np.empty(sizes.shape)
    for row, size in enumerate(sizes):
        whole = size.sum()
        masses = [a * x for a, x in zip(size, plain, strict=True)]
        heavier = [a * x for a, x in zip(size, biased, strict=True)]
        for j in range(len(laws)):
            with_j = sum(heavier[i] if i == j else masses[i] for i in range(len(laws)))
            saving[row, j] = np.log(with_j / whole).mean()
            if j == m:
                slope[row, j] = (biased[m] / with_j - 1 / whole).mean()
            else:
                slope[row, j] = (1 / (with_j + heavier[m] - masses[m]) - 1 / whole).mean()
    return saving, slope


def estimate_rates(sizes: Floats, savings: Floats, slopes: Floats, perturbed: int) -> Rates:
    """Return `Rates` from R independent repetitions: means, and t half-widths as errors.

    `savings` and `slopes` are [R, B, N].
    """
    each = rates_from_savings(sizes, savings, slopes, perturbed)
    mean = rates_from_savings(sizes, savings.mean(axis=0), slopes.mean(axis=0), perturbed)
    repetitions = len(savings)
    width = t.ppf((1 + LEVEL) / 2, repetitions - 1) / np.sqrt(repetitions)
    errors = [width * getattr(each, name).std(axis=0, ddof=1) for name in Rates.QUANTITIES]
    values = [getattr(mean, name) for name in Rates.QUANTITIES]
    return Rates(*values, *errors)
