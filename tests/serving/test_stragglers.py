"""Work that runs much longer than other work of its kind is reported, once."""

from __future__ import annotations

import pytest

from elastic_ray.serving.stragglers import MIN_SAMPLES, MIN_SECONDS, SLOW_FACTOR, StragglerDetector


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def finish(stragglers: StragglerDetector, clock: Clock, kind: str, *seconds: float) -> None:
    for each in seconds:
        with stragglers.timing(kind, "x"):
            clock.now += each


@pytest.mark.parametrize("usual", [1.0, MIN_SECONDS])
def test_slow_work_is_reported_once(clock: Clock, usual: float) -> None:
    stragglers = StragglerDetector(clock)
    finish(stragglers, clock, "answer", *[usual] * MIN_SAMPLES)
    with stragglers.timing("answer", "state abc"):
        clock.now += max(MIN_SECONDS, SLOW_FACTOR * usual) - 1
        assert stragglers.new_reports() == []
        clock.now += 2
        (line,) = stragglers.new_reports()
        assert "answer state abc" in line and f"the median is {usual:.1f} s" in line
        clock.now += 1000
        assert stragglers.new_reports() == []
    with stragglers.timing("answer", "another"):
        clock.now += 10_000
        assert len(stragglers.new_reports()) == 1


def test_other_kinds_and_failed_work_do_not_count(clock: Clock) -> None:
    stragglers = StragglerDetector(clock)
    finish(stragglers, clock, "score", *[0.1] * MIN_SAMPLES)
    for _ in range(MIN_SAMPLES):
        with pytest.raises(ValueError), stragglers.timing("answer", "x"):
            raise ValueError
    with stragglers.timing("answer", "state abc"):
        clock.now += 10_000
        assert stragglers.new_reports() == []


def test_the_expected_duration_counts_until_the_median_is_known(clock: Clock) -> None:
    stragglers = StragglerDetector(clock)
    with stragglers.timing("start of an engine", "m", expected_seconds=100.0):
        clock.now += SLOW_FACTOR * 100 - 1
        assert stragglers.new_reports() == []
        clock.now += 1
        (line,) = stragglers.new_reports()
        assert "start of an engine m" in line and "about 100 s is usual" in line
    finish(stragglers, clock, "start of an engine", *[1000.0] * MIN_SAMPLES)
    with stragglers.timing("start of an engine", "m", expected_seconds=100.0):
        clock.now += SLOW_FACTOR * 1000 - 1
        assert stragglers.new_reports() == [], "the median counts, not the expected duration"
