"""What a scorer's errors on labelled texts say about the shares that it reports.

A scorer calls a text aligned or not. Its sensitivity is the share of aligned texts that it calls
aligned, its specificity the share of the others that it does not. A reported share q of aligned
answers stands for the share (q + specificity - 1) / (sensitivity + specificity - 1) (Rogan and
Gladen, 1978). This holds if the scorer errs on answers as often as on the labelled texts.

The correction is the same affine map for all scores of a scorer. Retention, reversion size,
half-life and index do not change under it; the gap and both rates grow by one factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .resampling import generator
from .rows import Floats


@dataclass(frozen=True)
class ScorerErrors:
    """Labelled texts that a scorer was tried on: how many, and how many it classified correctly.

    `aligned` and `contrary` are (correct, texts) of either class.
    """

    aligned: tuple[int, int]
    contrary: tuple[int, int]

    @property
    def sensitivity(self) -> float:
        return self.aligned[0] / self.aligned[1]

    @property
    def specificity(self) -> float:
        return self.contrary[0] / self.contrary[1]

    @property
    def limits(self) -> tuple[float, float]:
        """The shares that the scorer reports where no answer is aligned, and where all are."""
        return 1 - self.specificity, self.sensitivity

    def corrected(self, shares: Floats, seed: int = 0) -> Floats:
        """Return the corrected shares of each draw, [rows]; row 0 has the measured accuracies.

        The other rows draw sensitivity and specificity too, from their posterior distributions
        under Jeffreys' prior. Where the two do not add up to more than 1, the scorer says nothing
        and any share is possible: the row is NaN. Shares are clipped to 0 and 1.
        """
        rng = generator(seed, "scorer", *self.aligned, *self.contrary)
        rates = []
        for correct, texts in (self.aligned, self.contrary):
            drawn = rng.beta(correct + 0.5, texts - correct + 0.5, len(shares))
            drawn[0] = correct / texts
            rates.append(drawn)
        informative = rates[0] + rates[1] - 1
        known = informative > 0
        share = (shares + rates[1] - 1) / np.where(known, informative, 1.0)
        return np.where(known, np.clip(share, 0.0, 1.0), np.nan)


def accuracy_interval(correct: int, texts: int) -> tuple[float, float]:
    """Return the 95% interval of an accuracy (Wilson, 1927)."""
    if texts == 0:
        return 0.0, 1.0
    z, share = 1.96, correct / texts
    middle = (share + z**2 / (2 * texts)) / (1 + z**2 / texts)
    half = z * math.sqrt(share * (1 - share) / texts + z**2 / (4 * texts**2)) / (1 + z**2 / texts)
    return middle - half, middle + half


LEAST_INFORMATIVE = 0.10
"""An accuracy counts as clearly better than chance if it is better by this much, at the lower end
of its interval. Below, a change of the true share shows up at a fifth of its size, or less."""


def better_than_chance(correct: int, texts: int, chance: float = 0.5) -> bool:
    """Return whether an accuracy is clearly above `chance`, the share of the larger class."""
    return accuracy_interval(correct, texts)[0] > chance + LEAST_INFORMATIVE
