"""Evaluates the SQL expressions of a sweep file over the rows of a data set, with DuckDB.

An expression sees the columns of one row and nothing else: no other table, file, network or
setting, no aggregate or window over other rows, and no function whose value differs between runs.
The rows come from the readers of `source`, not from DuckDB's own, so that all formats are read
alike (`rows`). The expressions are part of the task's identity.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .rows import FileProblem
from .source import Table

if TYPE_CHECKING:
    import duckdb  # otherwise where it is used: planning without such a task needs none of it

Connection: TypeAlias = "duckdb.DuckDBPyConnection"

_ROW = "__row"
_NOT_PLAIN = {
    "STAR": "* stands for several columns; name one",
    "SUBQUERY": "a SELECT inside it",
    "WINDOW": "a window function, which looks at other rows",
    "PARAMETER": "a parameter",
}
"""Kinds of expressions that are not functions of one row, by DuckDB's class."""
_CHANGING = {
    *("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "user"),
    *("current_user", "session_user", "current_role", "current_catalog", "current_schema"),
}
"""Words that SQL reads as functions without parentheses."""
_UNSTABLE = {"hash": "md5"}
"""Functions whose values may change with DuckDB's version, and what to use in their place."""
_SHOWN, _WIDTH = 300, 60
"""Characters of an example row in an error message, and of each of its values."""


class ExpressionError(ValueError):
    """An expression that cannot be used; `field` names it (`where`, or a column)."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The values of the expressions for one row, and where the row comes from."""

    where: str
    row: int
    values: dict[str, Any]


class Rows:
    """The rows of some tables, one after the other: the columns that the expressions mention.

    Raises `FileProblem`, with the file, for what cannot be read.
    """

    def __init__(self, tables: Sequence[Table], expressions: Sequence[str]) -> None:
        self._starts: list[int] = []
        self._where = [table.where for table in tables]
        text, count = "\n".join(expressions), 0
        self.columns: dict[str, None] = {}
        held: list[list[str]] = []
        for table in tables:
            try:
                held.append(table.columns())
            except FileProblem as e:
                raise FileProblem(f"{table.where}: {e}") from None
            self.columns.update(dict.fromkeys(held[-1]))
        used = [name for name in self.columns if _mentions(text, name)] or [*self.columns][:1]
        self._values: dict[str, list[Any]] = {name: [] for name in used}
        for table, names in zip(tables, held, strict=True):
            self._starts.append(count)
            here = [name for name in used if name in names]
            try:
                for row in table.rows(here):
                    count += 1
                    for name, values in self._values.items():
                        values.append(row.get(name))
            except FileProblem as e:
                raise FileProblem(f"{table.where}: {e}") from None
        self.count = count

    def place(self, row: int) -> tuple[str, int]:
        """Return the file of a row, and the row's number in it."""
        i = bisect_right(self._starts, row) - 1
        return self._where[i], row - self._starts[i]

    def example(self, row: int = 0) -> str:
        """Return a row as JSON, shortened; only the columns that the expressions mention."""
        if not self.count:
            return "no row"
        shown = {name: _short(values[row]) for name, values in self._values.items()}
        text = json.dumps(shown, ensure_ascii=False, default=str)
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

    def connect(self) -> Connection:
        """Return a database with these rows as the table `data`, shut off from everything else."""
        import duckdb
        import pyarrow as pa

        columns: dict[str, Any] = {_ROW: pa.array(range(self.count), pa.int64())}
        for name, values in self._values.items():
            try:
                columns[name] = pa.array(values)
            except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as e:
                reason = " ".join(str(e).split())[:160]
                raise FileProblem(
                    f"column {name!r}: holds values of several types ({reason})"
                ) from None
        connection = duckdb.connect(":memory:", config={"threads": "1"})
        try:
            connection.register("given", pa.table(columns))
            connection.execute("CREATE TABLE data AS SELECT * FROM given")
            connection.unregister("given")
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET temp_directory = ''")
            connection.execute("SET python_enable_replacements = false")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
        except duckdb.Error as e:
            connection.close()
            raise FileProblem(f"cannot be used as a table: {_one_line(e)}") from None
        return connection


def evaluate(rows: Rows, where: str | None, columns: Mapping[str, str]) -> Iterator[Evaluated]:
    """Yield the values of the expressions `columns`, by name, of each row for which `where` holds.

    Raises `ExpressionError` for an expression that is not a function of one row, or that fails.
    """
    import duckdb

    condition = {"where": where} if where is not None else {}
    with closing(rows.connect()) as connection:
        for name, sql in {**condition, **columns}.items():
            if (problem := _problem(connection, rows, sql)) is not None:
                raise ExpressionError(name, problem)
        chosen = ", ".join(f"(\n{sql}\n)" for sql in columns.values())
        query = f"SELECT {_ROW}, {chosen} FROM data"
        query += f" WHERE (\n{where}\n)" if where is not None else ""
        try:
            found = connection.execute(f"{query} ORDER BY {_ROW}").fetchall()
        except duckdb.Error:
            if where is not None:
                _run(connection, rows, "where", where, "true")
            for name, sql in columns.items():
                _run(connection, rows, name, sql, where or "true")
            raise  # unreachable: one of the expressions fails by itself
    for row, *values in found:
        place, number = rows.place(row)
        yield Evaluated(place, number, dict(zip(columns, values, strict=True)))


def _problem(connection: Connection, rows: Rows, sql: str) -> str | None:
    """Return why an expression is not a function of one row; None if it is."""
    import duckdb

    parsed = connection.execute(
        "SELECT json_serialize_sql($sql)", {"sql": f"SELECT (\n{sql}\n)"}
    ).fetchall()[0][0]
    tree = json.loads(parsed)
    if tree.get("error"):
        why = " ".join(str(tree.get("error_message", "it cannot be parsed")).split())
        return f"not an SQL expression: {why}"
    node = tree["statements"][0]["node"]
    if (
        len(tree["statements"]) != 1
        or node.get("type") != "SELECT_NODE"
        or len(node["select_list"]) != 1
        or node["from_table"]["type"] != "EMPTY"
    ):
        return "not one SQL expression"
    lower = {name.lower() for name in rows.columns}
    for part in _nodes(node["select_list"]):
        if (what := _NOT_PLAIN.get(part.get("class", ""))) is not None:
            return f"found {what}; an expression over the columns of one row is needed"
        names = part.get("column_names") or [""]
        if part.get("class") == "COLUMN_REF" and names[0].lower() in _CHANGING - lower:
            return f"{names[0]} differs between runs; data must not"
        if (name := part.get("function_name")) and (refusal := _refused(connection, name)):
            return refusal
    try:
        connection.execute(f"SELECT (\n{sql}\n) FROM data LIMIT 0")
    except duckdb.Error as e:
        held = ", ".join([*rows.columns][:20])
        return f"{_one_line(e)}; the columns are {held}; an example row: {rows.example()}"
    return None


def _refused(connection: Connection, function: str) -> str | None:
    """Return why a function may not be used; None if it may, or if there is none of that name."""
    name = function.lower()
    if name in _UNSTABLE:
        return f"{name}() may change with DuckDB's version; use {_UNSTABLE[name]}()"
    kinds = connection.execute(
        "SELECT DISTINCT function_type, stability FROM duckdb_functions() "
        "WHERE function_name = $name",
        {"name": name},
    ).fetchall()
    plain = [stability for kind, stability in kinds if kind in ("scalar", "macro")]
    if kinds and not plain:
        return f"{name}() is not a function of one row"
    if plain and not {"CONSISTENT", None} & set(plain):
        return f"{name}() differs between runs; data must not"
    return None


def _run(connection: Connection, rows: Rows, name: str, sql: str, where: str) -> None:
    """Evaluate one expression; raise `ExpressionError`, with the first row, if it fails."""
    import duckdb

    query = f"SELECT (\n{sql}\n) FROM data WHERE (\n{where}\n)"
    try:
        connection.execute(query).fetchall()
        return
    except duckdb.Error as e:
        problem = _one_line(e)
    low, high = 0, rows.count - 1  # the first row that fails, by halving
    while low < high:
        middle = (low + high) // 2
        try:
            connection.execute(f"{query} AND {_ROW} BETWEEN {low} AND {middle}").fetchall()
            low = middle + 1
        except duckdb.Error:
            high = middle
    place, number = rows.place(low)
    raise ExpressionError(name, f"{place}: row {number}: {problem}; the row: {rows.example(low)}")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?i)(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _WIDTH else f"{value[:_WIDTH]}..."
    if isinstance(value, list):
        return [_short(each) for each in value[:3]]
    if isinstance(value, dict):
        return {key: _short(each) for key, each in list(value.items())[:8]}
    return value


def _one_line(error: duckdb.Error) -> str:
    """Return DuckDB's message on one line, without its excerpt of the SQL and its suggestions.

    It would suggest columns among those that are mentioned only.
    """
    text = str(error).split("\n\nLINE ")[0].split("\nCandidate bindings")[0]
    return " ".join(text.split())
