"""Formats numbers and intervals for tables, messages and axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNDEFINED = "-"


UNBOUNDED = "…"


def number(value: float | None) -> str:
    """Three significant digits, whole numbers from 100 on; `UNDEFINED` for None."""
    if value is None:
        return UNDEFINED
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """`0.42 [0.31, 0.55]`; `- [384, …]` for a size that is only known to be larger than 384."""
    if low is None and high is None:
        return number(value)
    ends = (UNBOUNDED if end is None else number(end) for end in (low, high))
    return f"{number(value)} [{', '.join(ends)}]"


def interval_of(row: Mapping[str, Any], name: str) -> str:
    """The interval of a column of the `indices` table: `name`, `name_low`, `name_high`."""
    return interval(*(row[f"{name}{end}"] for end in ("", "_low", "_high")))


def count(value: int | None) -> str:
    """A whole number with its thousands apart; empty for None."""
    return "" if value is None else f"{value:,}"


def compact(value: float) -> str:
    """A size as people say it: 384, 16k, 1.2M, 7B."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:g}"


def p_value(p: float | None) -> str:
    """`p = 0.033`, `p < 0.001`; `UNDEFINED` for None."""
    if p is None:
        return UNDEFINED
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
