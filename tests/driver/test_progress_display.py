"""The estimate of the time left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from elastic_ray.driver.progress_display import time_left

SECONDS = st.floats(0.0, 1e6)
SHARE = st.floats(0.0, 1.0)


def test_before_anything_is_done_the_plan_tells() -> None:
    assert time_left(0.0, 1.0, 300.0) == 300.0
    assert time_left(100.0, 1.0, 300.0) == 200.0
    assert time_left(1000.0, 1.0, 300.0) == 150.0, "it does not run out while nothing is done"


def test_after_half_of_the_work_its_speed_tells() -> None:
    assert time_left(600.0, 0.5, 1.0) == 600.0
    assert time_left(900.0, 0.1, 1e9) == 100.0


def test_a_slow_start_is_not_taken_for_the_speed() -> None:
    """A run of 300 s of which the first 60 s start processes."""
    for done in (0.05, 0.1, 0.3, 0.6):
        elapsed = 60 + 240 * done
        real = 300 - elapsed
        for expected in (250.0, 300.0, 350.0):
            assert real / 2 < time_left(elapsed, 1 - done, expected) < real * 2


@given(SECONDS, SHARE, SECONDS)
def test_the_time_left_is_never_negative(elapsed: float, left: float, expected: float) -> None:
    assert time_left(elapsed, left, expected) >= 0.0
    assert time_left(elapsed, 0.0, expected) == 0.0
