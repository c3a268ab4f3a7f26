"""Formats numbers, intervals and p-values as text for tables, messages and axis labels.

`None` stands for an undefined value or an unbounded end of an interval, as in `elasticity`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

UNDEFINED = "-"
"""Text for a value that is undefined."""

UNBOUNDED = "…"
"""Text for an end of an interval that the data do not bound."""


def format_number(value: float | None) -> str:
    """Return `value` with three significant digits, without decimals from 100 on."""
    if value is None:
        return UNDEFINED
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_fixed(value: float | None, decimals: int) -> str:
    """Return `value` with so many decimals; halves of the shortest decimal form round away from 0.

    0.975 with two decimals is 0.98 everywhere, whatever its binary form.
    """
    if value is None or math.isnan(value):
        return UNDEFINED
    if math.isinf(value):
        return UNBOUNDED
    step = Decimal(1).scaleb(-decimals)
    rounded = Decimal(repr(float(value))).quantize(step, ROUND_HALF_UP)
    return f"{rounded or abs(rounded):,}"  # no minus before a rounded zero


def column_decimals(values: Iterable[float | None]) -> int:
    """Return the decimals of a column: the largest value gets three digits, at most 4 decimals."""
    sizes = [abs(v) for v in values if v is not None and math.isfinite(v) and v]
    if not sizes:
        return 0
    return min(4, max(0, 2 - math.floor(math.log10(max(sizes)))))


def interval_decimals(ends: Sequence[tuple[float | None, float | None, float | None]]) -> int:
    """Return the decimals of a column of (value, low, high): by its values, else by its bounds."""
    values = [value for value, _, _ in ends if value is not None]
    return column_decimals(values or [end for _, *bounds in ends for end in bounds])


def format_interval(
    value: float | None, low: float | None, high: float | None, decimals: int | None = None
) -> str:
    """Return a value with its interval, such as `0.42 [0.31, 0.55]`.

    A censored size, known only to be larger than 384, reads `- [384, …]`. `decimals` are those of
    the column; without it, each number has three significant digits.
    """

    def shown(number: float | None) -> str:
        return format_number(number) if decimals is None else format_fixed(number, decimals)

    if low is None and high is None:
        return shown(value)
    ends = (UNBOUNDED if end is None else shown(end) for end in (low, high))
    return f"{shown(value)} [{', '.join(ends)}]"


def format_row_intervals(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Return the intervals of one column of rows, all with the same number of decimals."""
    ends = [(row[name], row[f"{name}_low"], row[f"{name}_high"]) for row in rows]
    decimals = interval_decimals(ends)
    return [format_interval(value, low, high, decimals) for value, low, high in ends]


def format_row_interval(row: Mapping[str, Any], name: str) -> str:
    """Return the interval in the columns `name`, `name_low` and `name_high` of a row."""
    return format_interval(*(row[f"{name}{end}"] for end in ("", "_low", "_high")))


def format_count(value: int | None) -> str:
    """Return a whole number with thousands separators; an empty text for None."""
    return "" if value is None else f"{value:,}"


def format_compact(value: float) -> str:
    """Return a size with a unit prefix: 384, 16k, 1.2M, 7B."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:g}"


def format_p_value(p: float | None) -> str:
    """Return a p-value as `p = 0.033` or `p < 0.001`."""
    if p is None:
        return UNDEFINED
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
