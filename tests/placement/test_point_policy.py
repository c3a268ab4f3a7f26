"""When a resume point is due: properties, and the interval against a simulation of failures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_ray.placement import point_policy
from elastic_ray.placement.point_policy import SECONDS_BETWEEN_FAILURES, point_is_due, points_of

SECONDS = st.floats(1e-3, 1e5)


@given(SECONDS, SECONDS, SECONDS)
def test_more_at_risk_and_faster_writing_never_postpone_a_point(
    at_risk: float, writing: float, more: float
) -> None:
    if point_is_due(at_risk, writing):
        assert point_is_due(at_risk + more, writing)
        assert point_is_due(at_risk, writing / (1 + more))


@given(SECONDS, SECONDS)
def test_a_point_is_due_only_where_training_again_costs_more_than_writing(
    at_risk: float, writing: float
) -> None:
    if point_is_due(at_risk, writing):
        assert at_risk > writing
        assert at_risk / SECONDS_BETWEEN_FAILURES * at_risk / 2 > writing
    assert not point_is_due(0.0, writing)


@given(SECONDS, SECONDS)
def test_the_estimate_counts_the_points_that_are_due(training: float, writing: float) -> None:
    """Against a ladder of steps of a thousandth of it; a step may be late by one."""
    step, at_risk, written = training / 1000, 0.0, 0
    for _ in range(999):
        at_risk += step
        if point_is_due(at_risk, writing):
            written, at_risk = written + 1, 0.0
    estimated = points_of(training, writing, steps=1000)
    assert written <= estimated
    if estimated < 30:
        assert estimated - written <= 1 + estimated**2 / 1000


def test_no_other_interval_costs_less() -> None:
    """Writing and training again, simulated over many failures, at half and twice the interval."""
    writing, dice = 30.0, np.random.default_rng(0)
    interval = (2 * SECONDS_BETWEEN_FAILURES * writing) ** 0.5
    assert not point_is_due(interval * 0.99, writing) and point_is_due(interval * 1.01, writing)

    def cost(chosen: float) -> float:
        """Share of the training time that is lost."""
        failures = np.cumsum(dice.exponential(SECONDS_BETWEEN_FAILURES, 20_000))
        return writing / chosen + float((failures % chosen).sum() / failures[-1])

    assert cost(interval) < min(cost(interval / 2), cost(interval * 2))


def test_a_threshold_of_zero_makes_every_step_a_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(point_policy, "SECONDS_BETWEEN_FAILURES", 0.0)
    assert point_is_due(1e-6, 1e6)


def test_without_time_between_failures_a_point_follows_every_step_but_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(point_policy, "SECONDS_BETWEEN_FAILURES", 0.0)
    assert [points_of(60.0, 1.0, steps) for steps in (1, 2, 40)] == [0, 1, 39]
