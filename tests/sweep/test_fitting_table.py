"""Tables of the command on terminals of any width."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from elastic_ray.sweep.fitting_table import Column, print_fitting

COLUMNS = (
    Column("model", 3, is_text=True),
    Column("reversion", 2),
    Column("late rate", 0),
    Column("index", 1),
)
ROWS = [
    {
        "model": name,
        "reversion": "118 [102, 135]",
        "late rate": "0.196 [0.175, 0.217]",
        "index": "-",
    }
    for name in ("reviews-150k", "reviews-840k")
]


def printed(width: int) -> str:
    out = io.StringIO()
    print_fitting(Console(file=out, width=width), "a title", COLUMNS, ROWS, "FROM elasticity")
    return out.getvalue()


def test_a_wide_terminal_shows_every_column() -> None:
    text = printed(120)
    assert all(column.head in text for column in COLUMNS)
    assert "left out" not in text


def test_the_least_important_columns_are_left_out_and_named() -> None:
    text = printed(46)
    table, _, rest = text.partition("left out")
    assert "reversion" in table and "late rate" not in table
    assert "late rate" in rest and "FROM elasticity" in " ".join(rest.split())


@given(st.integers(20, 200))
def test_no_text_is_cut_at_any_width(width: int) -> None:
    text = printed(width)
    table = text.partition("left out")[0]
    assert "reviews-150k" in table and "reviews-840k" in table
    assert "…" not in text
    lines = [line for line in table.splitlines() if line.strip()]
    assert len(lines) == len(ROWS) + 5, "title, three rules, the head and a line for each row"
    assert all(len(line) <= max(width, 16) for line in lines[1:])
