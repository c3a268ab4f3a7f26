"""Decides when a trainer should write a resume point, and how many a ladder writes. Pure.

A point takes the time to write it. It saves the steps since the last point if the trainer ends
without notice. Within `at_risk` seconds of steps this happens with probability
`at_risk / SECONDS_BETWEEN_FAILURES`, and then half of them are lost on average. A point is due once
this expected loss exceeds the writing time. The interval that follows is J. W. Young's ("A first
order approximation to the optimum checkpoint interval", CACM 17(9), 1974).
"""

from __future__ import annotations

import math

SECONDS_BETWEEN_FAILURES = 86_400.0
"""Assumed mean time between failures of a trainer without notice. With notice (a spot instance that
is taken back), a trainer writes a point whatever this says. At 0, a point is due after every step.
"""
BYTES_PER_SECOND = 2e8
"""Assumed writing speed of one rank, a network disk's, until one has been measured."""


def point_is_due(at_risk: float, writing: float) -> bool:
    """Return whether to write a resume point now.

    `at_risk` are the seconds of the steps since the last point or the ladder's start, `writing` the
    seconds that writing a point takes. Neither is negative.
    """
    return at_risk**2 > 2 * SECONDS_BETWEEN_FAILURES * writing


def points_of(training: float, writing: float, steps: int) -> int:
    """Return the number of points that a ladder writes in `training` seconds of `steps` steps.

    The last of them is written before the ladder's last step, and there is at most one per step.
    """
    interval = math.sqrt(2 * SECONDS_BETWEEN_FAILURES * writing)
    most = max(0, steps - 1)
    return min(most, max(0, math.ceil(training / interval) - 1)) if interval else most
