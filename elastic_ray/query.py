"""`python -m elastic_ray.query [--results URI] [--format table|csv|json] "SQL"`: one query.

The views are those of `results/views.sql`. Only reading is allowed, and only of these results. A
table shows every column, folded where the terminal is narrow, and says how many rows it leaves out;
csv and json give all rows. In json, a number that is not finite is null. Exit code 2 and one
line on stderr where the query or the results cannot be read.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import json
import math
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import pyarrow as pa

from elastic_ray.results.errors import ResultsError
from elastic_ray.results.store import Results

from .results.statements import one_line

ROWS = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m elastic_ray.query",
        description="One SQL query over the results of sweeps.",
        epilog="Views: curves, surfaces, baselines, elasticity, cell_scores, progress, failures, "
        "answers, states, cells, responses, scores, ...; SHOW TABLES lists them, DESCRIBE curves "
        "its columns.",
    )
    parser.add_argument("sql", help='e.g. "FROM curves"')
    parser.add_argument("--results", default="results", metavar="URI", help="default: results")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")
    parser.add_argument(
        "--rows", type=int, default=ROWS, help=f"rows of a table, 0 for all (default {ROWS})"
    )
    asked = parser.parse_args(arguments)
    try:
        rows = Results(asked.results, read_only=True).query(asked.sql)
    except ResultsError as e:
        print(f"error: {one_line(str(e))}", file=sys.stderr)
        return 2
    try:
        if asked.format == "csv":
            write_csv(rows, sys.stdout)
        elif asked.format == "json":
            write_json(rows, sys.stdout)
        else:
            write_table(rows, asked.rows)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def write_csv(rows: pa.Table, out: TextIO) -> None:
    """All rows as CSV with a header; null is empty, lists and structs are JSON."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(rows.column_names)
    for row in _values(rows):
        writer.writerow(["" if value is None else _text(value) for value in row])


def write_json(rows: pa.Table, out: TextIO) -> None:
    """All rows as a JSON array of objects, one a line; a second column `a` is called `a_2`."""
    names = _distinct(rows.column_names)
    out.write("[")
    for number, row in enumerate(_values(rows)):
        item = dict(zip(names, map(_plain, row), strict=True))
        out.write(",\n " if number else "\n ")
        out.write(json.dumps(item, ensure_ascii=False, allow_nan=False))
    out.write("\n]\n" if rows.num_rows else "]\n")


def write_table(rows: pa.Table, limit: int = ROWS) -> None:
    """The first `limit` rows (0: all) as a table on stdout; says how many there are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = rows.slice(0, limit) if limit > 0 else rows
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for field in rows.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        table.add_column(Text(field.name), justify="right" if numeric else "left", overflow="fold")
    for row in _values(shown):
        table.add_row(*(Text("" if value is None else _brief(value)) for value in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        # a file or a pipe has no width: no value is folded there
        needed = Console(width=1_000_000).measure(table).maximum
        console = Console(highlight=False, width=max(needed, 80))
    console.print(table)
    left = rows.num_rows - shown.num_rows
    more = f"; {left} more rows with --rows 0, or --format csv" if left else ""
    console.print(f"{shown.num_rows} row{'s' * (shown.num_rows != 1)}{more}", style="dim")


def _values(rows: pa.Table) -> Any:
    for batch in rows.to_batches(max_chunksize=1024):
        columns = [column.to_pylist() for column in batch.columns]
        yield from zip(*columns, strict=True)


def _distinct(names: Sequence[str]) -> list[str]:
    taken: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.append(candidate)
    return taken


def _brief(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | dict | tuple):
        return json.dumps(_plain(value), ensure_ascii=False)
    return str(value)


def _plain(value: Any) -> Any:
    """`value` in the types of JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _text(value)


if __name__ == "__main__":
    sys.exit(main())
