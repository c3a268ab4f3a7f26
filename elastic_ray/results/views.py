"""Reads a view or table macro of `views.sql` by name, so that the app and report hold no SQL.

read_view(results, connection, "curves_in", "tiny", where={"model": ["a", "b"]}, limit=50)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from .errors import ResultsError
from .store import Results

_NAME = re.compile(r"[a-z_]+")


def read_view(
    results: Results,
    connection: duckdb.DuckDBPyConnection,
    name: str,
    *arguments: Any,
    where: Mapping[str, Any] | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> pa.Table:
    """Return the rows of one view, in its own order; `arguments` are those of a macro.

    `where` maps columns to the value each must have: a list means any of these, None means null.
    """
    parameters: dict[str, Any] = {f"a{i}": value for i, value in enumerate(arguments)}
    sql = f"FROM {_checked(name)}"
    if arguments:
        sql += f"({', '.join(f'${key}' for key in parameters)})"
    conditions = []
    for i, (column, value) in enumerate((where or {}).items()):
        if value is None:
            conditions.append(f"{_checked(column)} IS NULL")
            continue
        parameters[f"w{i}"] = list(value) if _is_list(value) else value
        condition = f"IN (SELECT unnest($w{i}))" if _is_list(value) else f"= $w{i}"
        conditions.append(f"{_checked(column)} {condition}")
    if conditions:
        sql += f" WHERE {' AND '.join(conditions)}"
    if limit is not None:
        sql += f" LIMIT {int(limit)} OFFSET {int(offset)}"
    return results.query(sql, parameters, connection)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ResultsError(f"no view or column is called {name!r}")
    return name
