"""Sentences that open a page: what came out, and what it rests on.

They summarise the measured quantities of the curves (rows of the view `elasticity`); questions with
a yes or no are for `conclusions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from .formatting import format_number
from .labels import model_label, positive_label

Row = Mapping[str, Any]


def summarize_curves(rows: Sequence[Row]) -> tuple[str, str]:
    """Return how fast the aligned behaviour is lost, and what that rests on; ("", "") if unknown.

    `rows` have undefined values as None.
    """
    if not rows:
        return "", ""
    half, back = _values(rows, "half_life"), _values(rows, "reversion_size")
    parts = []
    if half:
        parts.append(f"half of the alignment is gone after {_range(half)} negative examples")
    if back:
        parts.append(f"the baseline is reached after {_range(back)}")
    censored = len(rows) - len(back)
    if not parts:
        return f"None of the {len(rows)} curves comes back to its baseline.", _rest(rows)
    left = f"; {censored} of {len(rows)} curves do not reach it" if censored and back else ""
    answer = "; ".join(parts)
    return f"{answer[:1].upper()}{answer[1:]} in the {len(rows)} curves{left}.", _rest(rows)


def summarize_positive(rows: Sequence[Row]) -> tuple[str, str]:
    """Return whether more positive examples take more negative ones to undo, by model."""
    groups: dict[Any, dict[int, Row]] = {}
    for row in rows:
        at = (row["task"], row["model"], row["pretrain"])
        groups.setdefault(at, {})[int(row["positive"])] = row
    more = clear = compared = 0
    for by_size in groups.values():
        known = sorted(p for p, row in by_size.items() if row["reversion_size"] is not None)
        if len(known) < 2:
            continue
        one, other = by_size[known[0]], by_size[known[-1]]
        compared += 1
        more += other["reversion_size"] > one["reversion_size"]
        clear += _apart(one, other)
    if not compared:
        return "", ""
    return (
        f"With the most positive examples, the way back to the baseline takes more negative "
        f"examples than with the fewest in {more} of {compared} models; the 95% intervals do not "
        f"overlap in {clear}.",
        _rest(rows),
    )


def notable(rows: Iterable[Row], failed: int = 0) -> list[str]:
    """Return what a reader of the measurements should know first, one sentence each."""
    rows = list(rows)
    found = []
    back = [row for row in rows if row["reversion_size"] is not None]
    if len(back) > 1:
        fast, slow = (end(back, key=lambda r: r["reversion_size"]) for end in (min, max))
        found.append(
            f"Fastest way back: {_name(fast)}, {_size(fast)} negative examples; slowest: "
            f"{_name(slow)}, {_size(slow)}."
        )
    if censored := len(rows) - len(back):
        found.append(f"{censored} of {len(rows)} curves have no reversion size.")
    if limited := sum("at the scorer's limit" in (row["note"] or "") for row in rows):
        found.append(
            f"{limited} of {len(rows)} curves start at the scorer's limit: their early rates are "
            "lower bounds."
        )
    if short := sum("beyond the largest size" in (row["note"] or "") for row in rows):
        found.append(
            f"{short} of {len(rows)} curves have no late rate and no index: their window ends "
            "beyond the largest negative size."
        )
    if failed:
        found.append(f"{failed:,} cells failed and are missing from every figure.")
    return found


def _values(rows: Sequence[Row], name: str) -> list[float]:
    return sorted(float(row[name]) for row in rows if row[name] is not None)


def _range(values: Sequence[float]) -> str:
    low, middle, high = (format_number(round(v)) for v in (values[0], median(values), values[-1]))
    if low == high:
        return low
    return f"{low} to {high}" + (f" (median {middle})" if len(values) > 2 else "")


def _apart(one: Row, other: Row) -> bool:
    ends = [
        row[f"reversion_size_{end}"] for row, end in ((one, "high"), (other, "low"))
    ]  # fmt: skip
    return None not in ends and ends[0] < ends[1]


def _name(row: Row) -> str:
    name = model_label(row["model"], None if row["pretrain"] is None else int(row["pretrain"]))
    return f"{name}, {positive_label(int(row['positive']))}"


def _size(row: Row) -> str:
    return format_number(round(row["reversion_size"]))


def _rest(rows: Sequence[Row]) -> str:
    seeds = {int(row["seeds"]) for row in rows if row["seeds"] is not None}
    prompts = {int(row["prompts"]) for row in rows if row["prompts"] is not None}
    curves = f"{len(rows)} curve{'s' * (len(rows) != 1)}"
    if not seeds or not prompts:
        return f"{curves}."
    over = f"{_span(prompts)} prompts and {_span(seeds)} seed{'s' * (max(seeds) != 1)}"
    return f"{curves}, each over {over}; every value's interval is on the page Scaling."


def _span(values: set[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
