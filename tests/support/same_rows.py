"""Compares the rows of one sweep in two results, except for columns that differ between runs."""

from __future__ import annotations

from typing import Any

import pytest

from elastic_ray.results.schemas import TABLES
from elastic_ray.results.store import Results

COMPARED = tuple(table for table in TABLES if table not in ("sweeps", "runs"))
APART = {
    "states": ("seconds", "started_at", "finished_at", "trial"),
}
"""Table -> columns that differ between runs: times, durations, names of Tune's trials."""
ROUNDED = {"scores": ("probability", 1e-5), "code_lengths": ("bits", 1e-3)}
"""Table -> (column, tolerance): sums whose last digits depend on which texts share a batch."""


def rows_of(results: Results, sweep: str, table: str, *apart: str) -> list[dict[str, Any]]:
    """Return the sweep's rows, without the columns `APART` and `apart`.

    Other sweeps may share the results.
    """
    key = ", ".join(TABLES[table].key)
    left_out = [*APART.get(table, ()), *apart]
    exclude = f"EXCLUDE ({', '.join(left_out)})" if left_out else ""
    whose = f"sweep = '{sweep}'"
    if "sweep" not in TABLES[table].schema.names:
        whose = f"state_id IN (SELECT state_id FROM states WHERE {whose})"
    view = "elasticity" if table == "indices" else table
    sql = f"SELECT * {exclude} FROM {view} WHERE {whose} ORDER BY {key}"
    rows: list[dict[str, Any]] = results.query(sql).to_pylist()
    return rows


def compare(wanted: Results, there: Results, sweep: str, table: str, *apart: str) -> int:
    """Assert that the rows are equal, and return their number."""
    one, other = (rows_of(each, sweep, table, *apart) for each in (wanted, there))
    count = len(one)
    if table in ROUNDED:
        column, tolerance = ROUNDED[table]
        known, found = ([row.pop(column) for row in rows] for rows in (one, other))
        assert found == pytest.approx(known, abs=tolerance)
    assert other == one
    return count
