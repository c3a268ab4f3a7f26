"""Prints a table that fits the terminal: the least important columns are left out, and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Column:
    """A column of text; `importance` decides which is left out first, the smallest."""

    head: str
    importance: int
    is_text: bool = False
    """Whether it is aligned left, as names are; numbers are aligned right."""


def print_fitting(
    console: Console,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, str]],
    complete: str,
) -> None:
    """Print rows, which map heads to texts; no text is cut or wrapped.

    Where columns are left out, a line names them and `complete`, which shows all of them. At least
    one column is printed.
    """
    shown = list(columns)
    while len(shown) > 1 and _width(shown, rows) > console.width:
        shown.remove(min(shown, key=lambda column: column.importance))
    table = _table(shown, rows)
    table.title, table.title_justify = title, "left"
    console.print(table, soft_wrap=True)
    if left_out := [column.head for column in columns if column not in shown]:
        console.print(
            f"left out, for a wider terminal: {', '.join(left_out)}; all: {complete}",
            markup=False,
        )


def _table(columns: Sequence[Column], rows: Sequence[Mapping[str, str]]) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column.head, justify="left" if column.is_text else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[column.head]) for column in columns))
    return table


def _width(columns: Sequence[Column], rows: Sequence[Mapping[str, str]]) -> int:
    return Console(width=1_000_000).measure(_table(columns, rows)).maximum
