"""Formats numbers, intervals and p-values as text for tables, messages and axis labels.

`None` stands for an undefined value or an unbounded end of an interval, as in `elasticity`.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def format_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return a value with its interval, such as `0.42 [0.31, 0.55]`.

    A censored size, known only to be larger than 384, reads `- [384, …]`.
    """
    if low is None and high is None:
        return format_number(value)
    ends = (UNBOUNDED if end is None else format_number(end) for end in (low, high))
    return f"{format_number(value)} [{', '.join(ends)}]"


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
