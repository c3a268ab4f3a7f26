"""The command `query`: runs one SQL query over results and prints the rows.

    python -m elastic_ray.query [--results URI] [--format table|csv|json] "SQL"

`results/views.sql` defines the views. A query can only read, and only these results. The format
`table` shows every column, row by row where the terminal is too narrow for a table, and reports how
many rows it omits. `csv` and `json` print all rows. In json, NaN and infinite numbers are null. If
the query is invalid or the results cannot be read, the exit code is 2 and stderr has one line.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import pyarrow as pa

from elastic_ray.results.errors import ResultsError
from elastic_ray.results.statements import one_line
from elastic_ray.results.store import Results

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_ROWS = 500
"""Maximum number of rows of a printed table."""

PROGRAM = "python -m elastic_ray.query"


def main(arguments: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    """Run the command and return its exit code; `prog` is its name in the help text."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Run one SQL query over the results of sweeps and print the rows.",
        epilog="Views: curves, surfaces, baselines, elasticity, cell_scores, progress, failures, "
        "answers, states, cells, responses, scores, ... SHOW TABLES lists all views; "
        "DESCRIBE curves lists the columns of the view curves.",
    )
    parser.add_argument("sql", help='one SELECT, e.g. "FROM curves"')
    parser.add_argument(
        "--results",
        default="results",
        metavar="URI",
        help="the results: a folder, or a URI such as s3://bucket/folder (default: results)",
    )
    parser.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        default="table",
        help="the output format; csv and json print all rows (default: table)",
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=DEFAULT_ROWS,
        help=f"the maximum number of rows of a table; 0 prints all (default: {DEFAULT_ROWS})",
    )
    args = parser.parse_args(arguments)
    try:
        rows = Results(args.results, read_only=True).query(args.sql)
    except ResultsError as e:
        print(f"error: {one_line(str(e))}", file=sys.stderr)
        return 2
    try:
        if args.format == "csv":
            write_csv(rows, sys.stdout)
        elif args.format == "json":
            write_json(rows, sys.stdout)
        else:
            write_table(rows, args.rows)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def write_csv(rows: pa.Table, out: TextIO) -> None:
    """Write all rows as CSV with a header; null is empty, lists and structs are JSON."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(rows.column_names)
    for row in _values(rows):
        writer.writerow(["" if value is None else _text(value) for value in row])


def write_json(rows: pa.Table, out: TextIO) -> None:
    """Write all rows as a JSON array, one object per line; repeated column names get a number."""
    names = _distinct(rows.column_names)
    out.write("[")
    for number, row in enumerate(_values(rows)):
        item = dict(zip(names, map(_plain, row), strict=True))
        out.write(",\n " if number else "\n ")
        out.write(json.dumps(item, ensure_ascii=False, allow_nan=False))
    out.write("\n]\n" if rows.num_rows else "]\n")


def write_table(rows: pa.Table, limit: int = DEFAULT_ROWS) -> None:
    """Print the first `limit` rows (0: all) as a table, and how many are shown and omitted."""
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
    needed = Console(width=1_000_000).measure(table).maximum
    if not console.is_terminal:
        # A file or a pipe has no width, so values are not wrapped.
        console = Console(highlight=False, width=max(needed, 80))
    if needed <= console.width:
        console.print(table)
    else:
        _print_records(console, shown)
    omitted = rows.num_rows - shown.num_rows
    hint = f"; {omitted} more rows with --rows 0 or --format csv" if omitted else ""
    console.print(f"{shown.num_rows} row{'s' * (shown.num_rows != 1)}{hint}", style="dim")


def _print_records(console: Console, rows: pa.Table) -> None:
    """Print each row as lines of column and value, for terminals that are too narrow."""
    from rich.table import Table
    from rich.text import Text

    for number, row in enumerate(_values(rows), start=1):
        console.print(Text(f"row {number}", style="bold"))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in zip(rows.column_names, row, strict=True):
            grid.add_row(f"  {name}", Text("" if value is None else _brief(value)))
        console.print(grid)


def _values(rows: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Yield each row's values."""
    for batch in rows.to_batches(max_chunksize=1024):
        columns = [column.to_pylist() for column in batch.columns]
        yield from zip(*columns, strict=True)


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, with `_2`, `_3`, ... appended to repeated ones."""
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
    """Return `value` converted to JSON types."""
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
