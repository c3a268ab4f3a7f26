"""Measures, records and prints the numbers of a sweep when a run ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ..analysis.formatting import format_row_interval
from ..analysis.labels import QUANTITY_LABELS, model_label
from ..analysis.measurements import record_curve_measurements, record_path_measurements
from ..analysis.table_rows import PATH_COLUMNS, format_path_row
from ..plan import Lesson, Plan
from ..progress.tracker import ProgressTracker
from ..results.store import Results
from .fitting_table import Column, print_fitting

QUANTITIES = {
    "base": "base",
    "aligned": "aligned",
    "reversion": "reversion_size",
    "half-life": "half_life",
    "early rate": "early_rate",
    "late rate": "late_rate",
    "index": "elasticity_index",
}
"""Head of a column -> the measured quantity."""
CURVE_COLUMNS = (
    Column("model", 10, is_text=True),
    Column("task", 9, is_text=True),
    Column("pretrain", 7),
    Column("positive", 8),
    Column("base", 3),
    Column("aligned", 2),
    Column("reversion", 6),
    Column("half-life", 5),
    Column("early rate", 1),
    Column("late rate", 0),
    Column("index", 4),
)
PRINTED_METRICS = ("cross_entropy", "kl")
"""The distances that are printed; the view `inverse_forward` has all of them."""


def print_outcome(console: Console, results: Results, uri: str, sweep: str) -> None:
    """Measure the sweep's curves and paths, record the rows, and print them.

    `uri` is the results' name as the user gave it.
    """
    curves, concluded = record_curve_measurements(results, sweep)
    paths = record_path_measurements(results, sweep)
    if curves:
        complete = f'python -m elastic_ray.query --results {uri} "FROM elasticity"'
        _print_curves(console, curves, sweep, complete)
        for each in concluded:
            console.print(each.text, markup=False, highlight=False)
    if paths:
        _print_paths(console, paths, sweep)
    views = [
        *(["elasticity", "curves"] if curves else []),
        *(["inverse_forward"] if paths else []),
    ]
    queries = "; ".join(f'"FROM {view}"' for view in views or ["cells"])
    console.print(
        f"next: python -m elastic_ray.query --results {uri} {queries}; duckdb {uri}/elastic.duckdb",
        markup=False,
    )


def failures(plan: Plan, tracker: ProgressTracker) -> list[str]:
    """Return a line for each failed cell and lesson, with its error."""
    lines = []
    for point in plan.points:
        status, error = tracker.status(point)
        if status != "failed":
            continue
        where = f"{point.model} pretrain {point.pretrain}" if point.pretrain else point.model
        if isinstance(point, Lesson):
            what = f"positive {point.student} taught by {point.teacher}"
        else:
            what = f"positive {point.positive} negative {point.negative}"
        lines.append(f"{where} {what} seed {point.seed}: {error}")
    return lines


def _print_curves(
    console: Console, rows: Sequence[dict[str, Any]], sweep: str, complete: str
) -> None:
    several = len({row["task"] for row in rows}) > 1
    columns = [column for column in CURVE_COLUMNS if several or column.head != "task"]
    texts = [
        {
            "model": row["model"],
            "task": row["task"],
            "pretrain": "" if row["pretrain"] is None else f"{row['pretrain']:,}",
            "positive": f"{row['positive']:,}",
            **{head: format_row_interval(row, name) for head, name in QUANTITIES.items()},
        }
        for row in rows
    ]
    title = f"elasticity of {sweep} (95% intervals)"
    print_fitting(console, title, columns, texts, complete)
    seeds = min(row["seeds"] for row in rows)
    over = "prompts alone (one seed)" if seeds < 2 else f"prompts and seeds ({seeds})"
    console.print(
        f"intervals over {over}; sizes in examples; rates in score per 100 negative examples, the "
        f"late rate up to {rows[0]['late_window']:g} reversion sizes; - is undefined"
    )
    for name in ("late_rate", "elasticity_index"):
        undefined = [row for row in rows if row[name] is None]
        if undefined and undefined[0]["note"]:
            console.print(
                f"no {QUANTITY_LABELS[name].short} of {len(undefined)} curves, e.g. "
                f"{undefined[0]['note']}",
                markup=False,
            )
            break


def _print_paths(console: Console, rows: Sequence[dict[str, Any]], sweep: str) -> None:
    title = f"inverse and forward paths of {sweep} (distance from the teacher, 95% intervals)"
    table = Table(title=title, title_justify="left")
    heads = {name: head for name, head in PATH_COLUMNS.items() if name not in ("printed", "note")}
    for name, head in heads.items():
        is_text = name in ("label", "slices", "metric")
        table.add_column(head, justify="left" if is_text else "right")
    several = len({row["task"] for row in rows}) > 1
    for row in rows:
        if row["metric"] in PRINTED_METRICS:
            label = model_label(row["model"], row["pretrain"], row["task"] if several else None)
            texts = format_path_row(row, label)
            table.add_row(*(texts[name] for name in heads))
    console.print(table)
    console.print(
        "forward - inverse above 0 is the paper's claim; intervals and p over prompts, seeds held "
        "fixed; cross-entropy includes the teacher's own entropy, KL does not"
    )
    for note in dict.fromkeys(row["note"] for row in rows if row["note"]):
        console.print(f"of some pairs: {note}", markup=False)
