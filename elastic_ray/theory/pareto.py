"""The Pareto mass law of Assumption A.8: density alpha c^alpha / x^(alpha+1) above c.

A mass law has mean one (Definition A.4), so its scale is c = (alpha - 1) / alpha. After equation
97 the paper prints c = (1 - alpha) / alpha, which is negative although it needs log c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .exponential_integral import exponential_integral
from .rates import Floats


class LawError(ValueError):
    """Invalid parameters of a Pareto law, or sizes that do not fit it; see the message."""


@dataclass(frozen=True)
class Pareto:
    """The Pareto law of shape `alpha` and mean one, with no mass on a share `absent` of the leaves.

    The paper's law has `absent` 0: every data set has mass at every leaf, and never less than c.
    With a larger `absent`, a data set has no mass at that share of the leaves, and the masses of
    the others are larger by 1 / (1 - absent). Raises `LawError` unless 1 < alpha <= 90 and
    0 <= absent < 1.
    """

    alpha: float
    absent: float = 0.0

    def __post_init__(self) -> None:
        if not 1 < self.alpha <= 90:
            raise LawError(
                f"a Pareto law of mean one needs a shape above 1 and at most 90, not {self.alpha}"
            )
        if not 0 <= self.absent < 1:
            raise LawError(
                f"the share of leaves without mass must be 0 or more and below 1, not {self.absent}"
            )

    @property
    def present(self) -> float:
        """The share of leaves with mass."""
        return 1 - self.absent

    @property
    def scale(self) -> float:
        """The least mass of a leaf with mass: c = (alpha - 1) / alpha, divided by `present`."""
        return (self.alpha - 1) / self.alpha / self.present

    def quantile(self, upper: Floats) -> Floats:
        """Return the mass that a share `upper` of the leaves exceeds."""
        share = np.minimum(upper / self.present, 1)
        masses = self.scale * share ** (-1 / self.alpha)
        return np.where(upper <= self.present, masses, 0.0)

    def biased_quantile(self, upper: Floats) -> Floats:
        """Return `quantile` for leaves drawn by mass: E[X f(X)] is E[f] under shape alpha - 1."""
        return np.asarray(self.scale * upper ** (-1 / (self.alpha - 1)))

    def transform(self, s: Floats, power: int = 0) -> Floats:
        """Return E[X^power exp(-s X)] for s >= 0.

        On the leaves with mass it is alpha c^power E_(alpha+1-power)(c s). `power` is 0, 1 or 2;
        for 2 the value at s = 0 is infinite if alpha <= 2.
        """
        order = self.alpha + 1 - power
        factor = self.present * self.alpha * self.scale**power
        value = factor * exponential_integral(order, self.scale * s)
        return value if power else value + self.absent

    @property
    def mean_log(self) -> float:
        """E[log X] = log c + 1 / alpha, below 0; minus infinity if leaves are absent."""
        return -math.inf if self.absent else math.log1p(-1 / self.alpha) + 1 / self.alpha

    @property
    def mean_x_log_x(self) -> float:
        """E[X log X] = log c + 1 / (alpha - 1), above 0: the saving of one data set alone."""
        return math.log1p(-1 / self.alpha) - math.log1p(-self.absent) + 1 / (self.alpha - 1)

    @property
    def mean_inverse(self) -> float:
        """E[1 / X] = alpha^2 / (alpha^2 - 1); infinite if leaves are absent."""
        return math.inf if self.absent else self.alpha**2 / (self.alpha**2 - 1)

    @property
    def mean_square(self) -> float:
        """E[X^2] = `present` alpha c^2 / (alpha - 2); infinite for alpha <= 2."""
        if self.alpha <= 2:
            return math.inf
        return self.present * self.alpha * self.scale**2 / (self.alpha - 2)

    def equal_bins(self, leaves: int) -> Floats:
        """Return leaf probabilities [leaves] that follow this law best, in descending order.

        The law is cut into M equal shares of leaves, ordered by mass. Leaf i gets the mean mass of
        its share divided by M: ((i+1)/M)^(1 - 1/alpha) - (i/M)^(1 - 1/alpha). They sum to 1.
        """
        share = np.minimum(np.arange(leaves + 1) / (leaves * self.present), 1)
        beta = 1 - 1 / self.alpha
        # the difference of neighbours without cancellation: (before / after)^beta - 1 by expm1
        with np.errstate(divide="ignore"):
            steps = -np.expm1(beta * np.log(share[:-1] / share[1:]))
        return np.asarray(share[1:] ** beta * steps)
