"""The negative size until which a distance from the baseline stays above a level.

The later version of the paper (ACL 2025, Table 3) reports how many contrary examples bring a model
back to within a KL divergence of epsilon = 0.01 of its pre-trained state. A curve here holds the
divergence from the baseline, by seed, negative size and prompt, in place of scores.
"""

from __future__ import annotations

import numpy as np

from .crossings import first_reach
from .curve import Curve
from .mean_draws import draw_means
from .quantities import estimated
from .resampling import RESAMPLES, Estimate, check_resamples, estimate

EPSILON = 0.01
"""Default level of the KL divergence, in nats."""


def start_distance(curve: Curve, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return the distance from the baseline at the start of the curve, before negative examples."""
    if not curve.prompts or not curve.negatives or curve.negatives[0] != 0:
        return Estimate()
    check_resamples(resamples)
    drawn = draw_means([curve], resamples, seed)[0].scores[:, 0]
    return estimate(np.maximum(drawn, 0.0))  # a divergence is not below 0


def size_until(
    curve: Curve, level: float = EPSILON, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Return the negative size at which the distance first falls to `level`, with its interval.

    Interpolation is that of the reversion size. The result is 0 if the curve starts at or below the
    level, and has only a lower end if it never gets there.
    """
    check_resamples(resamples)
    if not curve.prompts or len(curve.negatives) < 2 or curve.negatives[0] != 0:
        return Estimate()
    sizes = np.array(curve.negatives, dtype=np.float64)
    drawn = draw_means([curve], resamples, seed)[0].scores - level
    reach = first_reach(drawn[: len(drawn) if len(curve.prompts) > 1 else 1], sizes)
    return estimated((np.minimum(reach, sizes[-1]), reach))
