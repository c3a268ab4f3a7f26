"""Numbers, intervals, sizes and p-values as text."""

from __future__ import annotations

import pytest

from elastic_ray.analysis.formatting import (
    format_compact,
    format_count,
    format_interval,
    format_p_value,
    format_row_interval,
)


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.42135, 0.3, 0.5, "0.421 [0.3, 0.5]"),
        (1234.5, 999.6, None, "1,234 [1,000, …]"),
        (None, 384, None, "- [384, …]"),
        (None, None, None, "-"),
        (0.5, None, None, "0.5"),
    ],
)
def test_an_interval_marks_undefined_values_and_unbounded_ends(
    value: float | None, low: float | None, high: float | None, text: str
) -> None:
    assert format_interval(value, low, high) == text
    row = {"gap": value, "gap_low": low, "gap_high": high}
    assert format_row_interval(row, "gap") == text


def test_sizes_and_p_values() -> None:
    sizes = (0, 384, 16_000, 150_400, 1_200_000, 7e9)
    assert [format_compact(s) for s in sizes] == ["0", "384", "16k", "150k", "1.2M", "7B"]
    assert format_p_value(None) == "-"
    assert format_p_value(0.0333) == "p = 0.033"
    assert format_p_value(0.0001) == "p < 0.001"
    assert format_count(None) == "" and format_count(16_000) == "16,000"
