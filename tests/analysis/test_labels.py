"""How numbers, intervals and sizes read."""

from __future__ import annotations

import pytest

from elastic_ray.analysis import labels as wording
from elastic_ray.elasticity import QUANTITIES


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (0.42135, 0.3, 0.5, "0.421 [0.3, 0.5]"),
        (1234.5, 999.6, None, "1,234 [1,000, …]"),
        (None, 384, None, "- [384, …]"),
        (None, None, None, "-"),
        (0.5, None, None, "0.5"),
    ],
)
def test_an_interval_says_what_is_undefined_and_what_not_bounded(
    value: float | None, low: float | None, high: float | None, words: str
) -> None:
    assert wording.interval(value, low, high) == words
    row = {"gap": value, "gap_low": low, "gap_high": high}
    assert wording.interval_of(row, "gap") == words


def test_sizes_and_p_values() -> None:
    sizes = (0, 384, 16_000, 150_400, 1_200_000, 7e9)
    assert [wording.compact(s) for s in sizes] == ["0", "384", "16k", "150k", "1.2M", "7B"]
    assert wording.p_value(None) == "-"
    assert wording.p_value(0.0333) == "p = 0.033"
    assert wording.p_value(0.0001) == "p < 0.001"
    assert wording.count(None) == "" and wording.count(16_000) == "16,000"


def test_every_quantity_is_worded() -> None:
    assert set(wording.QUANTITIES) == set(QUANTITIES)
