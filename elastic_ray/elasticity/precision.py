"""How wide an interval of a mean score a sweep can expect, and what a wanted width takes.

The half-width of the 95% interval of a mean over P prompts and S seeds is

    sqrt(t(S - 1)^2 (answer / P + seed) / S + 1.96^2 prompt / P)

where the variances are those of a single answer around its prompt's mean, of a seed's mean, and of
a prompt's mean, and t is Student's 97.5% quantile. More prompts cannot make up for few seeds, nor
the reverse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .curve import Curve

_QUANTILES = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
    10: 2.228, 12: 2.179, 15: 2.131, 20: 2.086, 30: 2.042, 60: 2.000,
}  # fmt: skip
"""97.5% quantiles of Student's t by degrees of freedom."""

_Z = 1.96
MOST_SEEDS, MOST_PROMPTS = 100, 1_000_000


def student(freedom: int) -> float:
    """Return the 97.5% quantile of Student's t; 1.96 for 0 degrees (seeds are held fixed)."""
    if freedom < 1:
        return 1.96
    known = [f for f in _QUANTILES if f <= freedom]
    return 1.96 if freedom > 120 else _QUANTILES[max(known)]


@dataclass(frozen=True)
class Variances:
    """Variances of a score: between prompts, between seeds, and of single answers beyond both."""

    prompt: float
    seed: float
    answer: float

    def half_width(self, prompts: int, seeds: int) -> float:
        """Return the expected half-width of the 95% interval of a mean."""
        over_seeds = (self.answer / prompts + self.seed) / seeds
        return math.sqrt(student(seeds - 1) ** 2 * over_seeds + _Z**2 * self.prompt / prompts)

    def seeds_for(self, half_width: float, prompts: int) -> int | None:
        """Return the fewest seeds, at least 2, for a half-width; None if no number is enough."""
        counts = range(2, MOST_SEEDS + 1)
        return next((s for s in counts if self.half_width(prompts, s) <= half_width), None)

    def prompts_for(self, half_width: float, seeds: int) -> int | None:
        """Return the fewest prompts for a half-width; None if no number is enough."""
        wider = student(seeds - 1) ** 2 / seeds
        left = half_width**2 - wider * self.seed
        if left <= 0:
            return None
        found = math.ceil((_Z**2 * self.prompt + wider * self.answer) / left)
        return found if found <= MOST_PROMPTS else None


ASSUMED = Variances(prompt=0.05, seed=0.0004, answer=0.20)
"""What `--dry-run` assumes of a share near one half: a variance of 0.25, a fifth of it between
prompts, and seeds with a standard deviation of 0.02 (`tiny` has 0.01 to 0.02)."""


def variances(curve: Curve) -> Variances | None:
    """Return the variances of a curve's scores, the median over sizes; None below two seeds."""
    scores = curve.scores
    seeds, _, prompts = scores.shape
    if seeds < 2 or prompts < 2 or np.isnan(scores).any() or not scores.size:
        return None
    left = scores - scores.mean(axis=0) - scores.mean(axis=2, keepdims=True)
    left += scores.mean(axis=(0, 2))[None, :, None]
    answer = np.sum(left**2, axis=(0, 2)) / ((seeds - 1) * (prompts - 1))
    seed = scores.mean(axis=2).var(axis=0, ddof=1) - answer / prompts
    prompt = scores.mean(axis=0).var(axis=1, ddof=1) - answer / seeds
    at = (float(np.median(np.maximum(each, 0.0))) for each in (prompt, seed, answer))
    return Variances(*at)
