"""Numbers read the same everywhere: one rounding, fixed decimals within a column."""

from __future__ import annotations

import pytest

from elastic_ray.analysis.formatting import (
    column_decimals,
    format_fixed,
    format_row_intervals,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.975, "0.98"),
        (0.985, "0.99"),
        (-0.125, "-0.13"),
        (1234.5, "1,234.50"),
        (-0.0001, "0.00"),
        (None, "-"),
    ],
)
def test_halves_of_the_decimal_form_round_away_from_zero(value: float | None, text: str) -> None:
    assert format_fixed(value, 2) == text


def test_decimals_follow_the_largest_value() -> None:
    assert column_decimals([0.5, 0.98]) == 3
    assert column_decimals([36.2, 117.8]) == 0
    assert column_decimals([0.00002]) == 4
    assert column_decimals([None, 0.0]) == 0


def test_a_column_of_intervals_has_the_same_decimals() -> None:
    rows = [
        {"x": 117.8, "x_low": 67.6, "x_high": 160.3},
        {"x": 35.6, "x_low": 21.1, "x_high": None},
        {"x": None, "x_low": 384.0, "x_high": None},
    ]
    assert format_row_intervals(rows, "x") == ["118 [68, 160]", "36 [21, …]", "- [384, …]"]
    bounds = [{"x": None, "x_low": 0.3184, "x_high": None}]
    assert format_row_intervals(bounds, "x") == ["- [0.318, …]"], "a bound is not rounded away"
