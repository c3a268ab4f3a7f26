"""Columns and formatted rows of the tables of paths and of code lengths.

The sweep command, the app and the report share them, so that a number reads the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .formatting import (
    UNDEFINED,
    format_number,
    format_p_value,
    format_row_interval,
    format_row_intervals,
)
from .labels import METRIC_LABELS

COMPRESSION_COLUMNS: Mapping[str, str] = {
    "label": "model",
    "positive": "positive",
    "negative": "negative",
    "k": "k",
    "l": "l",
    "pretrain_rate": "D1",
    "positive_rate": "D2",
    "negative_rate": "D3",
    "pretrain_change": "change of D1",
    "positive_change": "change of D2",
    "times": "times faster",
    "said": "which is",
    "theory": "theory",
    "slopes": "slopes",
    "theory_slopes": "theory of slopes",
}
"""Column headings of the rows of `theory.curve_rows`."""


def format_compression_row(row: Mapping[str, Any]) -> dict[str, str]:
    """Return a row of `theory.curve_rows` as text, a value per column of `COMPRESSION_COLUMNS`."""
    shown = {}
    for name in COMPRESSION_COLUMNS:
        if name in row and f"{name}_low" in row:
            shown[name] = format_row_interval(row, name)
        elif name in row:
            shown[name] = row[name] if isinstance(row[name], str) else format_number(row[name])
        else:  # a range without a value
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            shown[name] = f"{format_number(low)} to {format_number(high)}"
    return shown


def format_compression_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return rows as `format_compression_row`, with the same decimals within a column."""
    shown = [format_compression_row(row) for row in rows]
    for name in COMPRESSION_COLUMNS:
        if all(name in row and f"{name}_low" in row for row in rows):
            for text, interval in zip(shown, format_row_intervals(rows, name), strict=True):
                text[name] = interval
    return shown


PATH_COLUMNS: Mapping[str, str] = {
    "label": "model",
    "slices": "slices",
    "metric": "distance",
    "inverse": "inverse",
    "forward": "forward",
    "difference": "forward - inverse",
    "p_value": "p",
    "nearer": "seeds inverse < forward",
    "printed": "printed in the paper",
    "note": "note",
}
"""Column headings of the rows of the view `inverse_forward`."""


def format_path_row(row: Mapping[str, Any], label: str) -> dict[str, str]:
    """Return a row of the view `inverse_forward`, or of the table `paths`, as text by column."""
    inverse, forward = row.get("printed_inverse"), row.get("printed_forward")
    return {
        "label": label,
        "slices": f"{row['k']}, {row['l']}",
        "metric": METRIC_LABELS.get(row["metric"], row["metric"]),
        **{name: format_row_interval(row, name) for name in ("inverse", "forward", "difference")},
        "p_value": format_p_value(row["p_value"]).removeprefix("p = ").removeprefix("p "),
        "nearer": f"{row['seeds_inverse_nearer']} of {row['seeds']}" if row["seeds"] else UNDEFINED,
        "printed": "" if inverse is None else f"{inverse:.4f} vs. {forward:.4f}",
        "note": row["note"] or "",
    }


PATHS_QUESTION = (
    "Is the way back shorter: does inverse fine-tuning end nearer to its teacher than forward "
    "fine-tuning?"
)


def answer_paths_question(metric: str, counts: tuple[int, int, int, int]) -> str:
    """Answer `PATHS_QUESTION` by one distance, in a sentence or two.

    `counts` are the numbers of pairs with the 95% interval of the difference above 0, below 0,
    including 0, and with no interval, as `elasticity.told_apart` returns them.
    """
    nearer, farther, unclear, undefined = counts
    known = nearer + farther + unclear
    name = METRIC_LABELS.get(metric, metric)
    if not known:
        return f"By {name} there is no answer: no pair has an interval."
    short = {
        (True, False, False): "yes, in every pair",
        (False, True, False): "no, the opposite in every pair",
        (False, False, True): "undecided in every pair",
    }.get((nearer > 0, farther > 0, unclear > 0), "not in every pair")
    return (
        f"By {name}: {short}. Of {known} pairs, the inverse path ends nearer to its teacher in "
        f"{nearer} and the forward path in {farther}; in {unclear} the 95% interval of the "
        "difference includes 0." + (f" {undefined} more have no interval." if undefined else "")
    )
