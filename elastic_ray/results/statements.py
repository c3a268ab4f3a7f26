"""Checks that a SQL statement from a user only reads, and shortens DuckDB's error messages.

DuckDB's own sandbox is not enough: a WITH clause can COPY into any folder that may be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import duckdb

from .errors import ResultsError

Connection: TypeAlias = duckdb.DuckDBPyConnection
"""An open DuckDB connection to results."""

_READS = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_HIDES_SQL = {"json_execute_serialized_sql", "query"}


def check_reads_only(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Return `sql` if it is one statement that only reads; otherwise `ResultsError` says why not.

    Allowed are SELECT, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE, PIVOT with its values listed, and
    EXPLAIN of these.
    """
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as e:
        raise ResultsError(str(e)) from e
    if len(statements) != 1:
        found = f"{len(statements)} statements" if statements else "no statement"
        raise ResultsError(f"give one SELECT; found {found}")
    kind = statements[0].type
    if kind == duckdb.StatementType.MULTI:
        raise ResultsError(
            "PIVOT needs its values listed here: PIVOT t ON column IN (1, 2) USING ..."
        )
    if kind not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise ResultsError(f"only SELECT is allowed here; found {kind.name}")
    for node in tree_nodes(parse_tree(connection, sql)):
        label = node.get("type")
        if isinstance(label, str) and label.endswith("_NODE") and label not in _READS:
            what = label.removesuffix("_QUERY_NODE").removesuffix("_NODE")
            raise ResultsError(f"only SELECT is allowed here; found {what} inside it")
        if str(node.get("function_name")).lower() in _HIDES_SQL:
            raise ResultsError(
                f"{node['function_name']}() runs SQL from a string: not allowed here"
            )
    return sql


def parse_tree(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """Return the parsed SELECT as DuckDB's JSON; of an EXPLAIN, the explained statement."""
    inner = re.sub(r"(?is)^\s*explain(\s+analyze)?\b", "", sql, count=1)
    row = connection.execute("SELECT json_serialize_sql($sql)", {"sql": inner}).fetchall()[0]
    tree = json.loads(row[0])
    if tree.get("error"):
        raise ResultsError("only SELECT is allowed here; this statement cannot be checked")
    return tree


def tree_nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a parsed statement, however deep."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def one_line(message: str) -> str:
    """Return a DuckDB message on one line, without its excerpt of the SQL."""
    kept = message.split("\n\nLINE ")[0]
    return " ".join(part.strip() for part in kept.splitlines() if part.strip())
