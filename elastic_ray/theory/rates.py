"""Normalised compression rates in the continuum of Lemma A.6, independent of the method.

Let X_j be the mass of data set j at a leaf, in units of the uniform mass, so E[X_j] = 1. Let
Y = sum |D_j| X_j / sum |D_j| be the mass of the union (equation 21). By Lemma A.6 the code length
of a data set is log M - S_j, where M is the number of leaves and

    S_j = E[X_j log Y]      the *saving* of data set j against a uniform code, in nats,
    H   = E[Y log Y]        the saving of the union, the mean of all S_j by size, > 0.

So Definition 3.12 is gamma_j = S_j / H. A data set with a rate above 1 is compressed better than
the union, one with a rate below 0 worse than by a uniform code. Two identities hold for every mass
law of mean one and all sizes (E[Y] = 1, and the derivative of E[Y log Y] through the log is 0):

    sum |D_j| gamma_j = sum |D_j|,        sum |D_j| dS_j/d|D_m| = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rates:
    """The quantities of Theorem 3.13 for N data sets; the last axis of every array is the data set.

    - `saving`: S_j, in nats;
    - `saving_slope`: dS_j/d|D_m|, where D_m is the perturbed data set;
    - `gamma`: S_j / H (Definition 3.12, no unit);
    - `gamma_slope`: d gamma_j / d|D_m|. With sizes (k, 1, l) and the last data set perturbed this
      is d gamma_j / dl.

    Each `*_error` is the error of the value: a bound (quadrature) or a 99.9% half-width (Monte
    Carlo, trees).
    """

    saving: Floats
    saving_slope: Floats
    gamma: Floats
    gamma_slope: Floats
    saving_error: Floats
    saving_slope_error: Floats
    gamma_error: Floats
    gamma_slope_error: Floats

    QUANTITIES = ("saving", "saving_slope", "gamma", "gamma_slope")


def rates_from_savings(
    sizes: Floats,
    saving: Floats,
    slope: Floats,
    perturbed: int = -1,
    saving_error: Floats | None = None,
    slope_error: Floats | None = None,
) -> Rates:
    """Return `Rates` from savings S_j and slopes dS_j/d|D_m| (all [..., N]) and absolute errors.

    gamma_j' = (S_j' H - H' S_j) / H^2 (equations 38, 39), with H' = (S_m - H) / sum |D| by the
    second identity. Errors propagate to first order, each with its worst sign. Rates are NaN or
    infinite where H is 0: a uniform union has no normalised rates.
    """
    e = np.zeros_like(saving) if saving_error is None else saving_error
    f = np.zeros_like(slope) if slope_error is None else slope_error
    size = sizes.sum(axis=-1, keepdims=True)
    h = (sizes * saving).sum(axis=-1, keepdims=True) / size
    h_error = (sizes * e).sum(axis=-1, keepdims=True) / size
    m = [perturbed]
    h_slope = (saving[..., m] - h) / size
    h_slope_error = (e[..., m] + h_error) / size
    with np.errstate(divide="ignore", invalid="ignore"):  # H = 0, and errors of infinite slopes
        gamma = saving / h
        gamma_slope = (slope - h_slope * gamma) / h
        gamma_error = (e + abs(gamma) * h_error) / h
        gamma_slope_error = f + abs(gamma) * h_slope_error + abs(h_slope) * gamma_error
        gamma_slope_error = (gamma_slope_error + abs(gamma_slope) * h_error) / h
    return Rates(saving, slope, gamma, gamma_slope, e, f, gamma_error, gamma_slope_error)
