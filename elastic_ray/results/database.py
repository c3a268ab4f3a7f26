"""The views of `views.sql` in DuckDB: in memory for this program, in `elastic.duckdb` for others.

`connect` gives a connection that can read the results and nothing else: no other file, no network,
no changed setting. `check_reads_only` refuses every statement that is not a single SELECT; both
are needed, as DuckDB lets a WITH clause COPY into any folder that may be read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import duckdb
import pyarrow as pa

from .file_names import empty_files, parquet
from .schemas import TABLES, ResultsError
from .storage.folder import Folder

DATABASE = "elastic.duckdb"

_READS = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_HIDES_SQL = {"json_execute_serialized_sql", "query"}
_PATIENCE = 30.0
_NOT_THE_FILE = (duckdb.ConversionException, duckdb.CatalogException, duckdb.PermissionException)


def views(folder: Folder) -> str:
    """The SQL of `views.sql` for the results in `folder`."""
    return _views(_pattern(folder))


def _pattern(folder: Folder) -> str:
    return re.sub(r"([*?\[])", r"[\1]", folder.address)


def _views(root: str) -> str:
    text = Path(__file__).with_name("views.sql").read_text(encoding="utf-8")
    return Template(text).substitute(root=root.replace("'", "''"))


def _define(connection: duckdb.DuckDBPyConnection, folder: Folder) -> None:
    """Create the views. DuckDB reads the files behind a view that it creates, tens of thousands
    here, so it is shown empty tables first and the right folder last."""
    with tempfile.TemporaryDirectory(prefix="elastic-ray-") as place:
        for table in TABLES.values():
            for name in empty_files(table):
                path = Path(place, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(parquet(table, table.schema.empty_table(), replaces=()))
        connection.execute(_views(place))
    macro = next(s for s in connection.extract_statements(views(folder)) if "root()" in s.query)
    connection.execute(macro.query.replace("CREATE MACRO", "CREATE OR REPLACE MACRO"))


def connect(folder: Folder, settings: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with the views, closed to everything but `folder`."""
    try:
        connection = duckdb.connect(":memory:", config=dict(settings))
    except (duckdb.Error, TypeError) as e:
        raise ResultsError(f"DuckDB refuses the settings {dict(settings)}: {e}") from e
    if "temp_directory" not in settings:
        # the default is a folder in the current directory
        spill = str(Path(tempfile.gettempdir(), f"elastic-ray-duckdb-{os.getpid()}"))
        connection.execute(f"SET temp_directory = {_quoted(spill)}")
    allowed = [f"{folder.address}/", f"{_pattern(folder)}/"]
    if folder.fsspec is not None:
        connection.register_filesystem(folder.fsspec)
        # fsspec lists memory://a/b as memory:///a/b
        scheme, _, path = folder.address.partition("://")
        allowed.append(f"{scheme}:///{path.strip('/')}/")
    with contextlib.ExitStack() as on_error:
        on_error.callback(connection.close)
        _define(connection, folder)
        connection.execute(f"SET allowed_directories = [{', '.join(map(_quoted, allowed))}]")
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        on_error.pop_all()
    return connection


def run(
    folder: Folder,
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    parameters: Mapping[str, Any] | None = None,
) -> pa.Table:
    """The rows of one SELECT over the views; every failure is a `ResultsError`.

    A query under way while compaction deletes small files may find one of them gone; it is then
    asked again, for up to half a minute.
    """
    check_reads_only(connection, sql)
    give_up, pause = time.monotonic() + _PATIENCE, 0.02
    while True:
        try:
            return connection.sql(sql, params=parameters).to_arrow_table()
        except duckdb.Error as e:
            name = _file_named_in(str(e), folder)
            if name is None or isinstance(e, _NOT_THE_FILE) or "No files found" in str(e):
                raise ResultsError(str(e)) from e
            if folder.exists(name) or time.monotonic() > give_up:
                raise folder.unreadable(name, e) from e
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def _file_named_in(message: str, folder: Folder) -> str | None:
    """The results' file that a message of DuckDB's names, relative to the folder."""
    start = "|".join({re.escape(folder.root), re.escape(folder.address)})
    found = re.search(rf"(?:{start})/([^\"'\n*]*?\.parquet)", message)
    return found[1] if found else None


def check_reads_only(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """`sql` if it is one statement that only reads; otherwise `ResultsError` says why not.

    Reading: SELECT, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE, PIVOT with its values listed, and
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
    for node in nodes(tree_of(connection, sql)):
        label = node.get("type")
        if isinstance(label, str) and label.endswith("_NODE") and label not in _READS:
            what = label.removesuffix("_QUERY_NODE").removesuffix("_NODE")
            raise ResultsError(f"only SELECT is allowed here; found {what} inside it")
        if str(node.get("function_name")).lower() in _HIDES_SQL:
            raise ResultsError(
                f"{node['function_name']}() runs SQL from a string: not allowed here"
            )
    return sql


def tree_of(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The parsed SELECT as DuckDB's JSON; of an EXPLAIN, what it explains."""
    inner = re.sub(r"(?is)^\s*explain(\s+analyze)?\b", "", sql, count=1)
    row = connection.execute("SELECT json_serialize_sql($sql)", {"sql": inner}).fetchall()[0]
    tree = json.loads(row[0])
    if tree.get("error"):
        raise ResultsError("only SELECT is allowed here; this statement cannot be checked")
    return tree


def nodes(tree: Any) -> Any:
    """Every object in a parsed statement, however deep."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def refresh(folder: Folder) -> str | None:
    """Write `elastic.duckdb` beside the tables if it is missing or out of date, atomically.

    Returns a sentence for the user where it could not: another process has it open for writing.
    """
    mark = hashlib.sha256(f"{duckdb.__version__}\n{views(folder)}".encode()).hexdigest()
    if folder.local is not None:
        target = folder.local / DATABASE
        if target.exists():
            try:
                with duckdb.connect(str(target), read_only=True) as there:
                    if there.execute("SELECT mark FROM views_of").fetchall() == [(mark,)]:
                        return None
            except (duckdb.ConnectionException, duckdb.IOException) as e:
                if re.search(r"lock|different configuration|already (open|attached)", str(e)):
                    return (
                        f"{target} is open in another program and was left as it is; close it and "
                        "run again to bring its views up to date"
                    )
            except duckdb.Error:
                pass  # of an older version, or no database at all: made anew
    # not in place: in the path of a database it writes, DuckDB takes "?" for a query string
    with tempfile.TemporaryDirectory() as place:
        temporary = Path(place, DATABASE)
        _build(temporary, folder, mark)
        folder.put(DATABASE, temporary.read_bytes())
    return None


def _build(path: Path, folder: Folder, mark: str) -> None:
    try:
        # written so that DuckDB 1.x can open it too
        config: dict[str, Any] = {"storage_compatibility_version": "v1.2.0"}
        with duckdb.connect(str(path), config=config) as connection:
            _define(connection, folder)
            connection.execute(f"CREATE VIEW views_of AS SELECT '{mark}' AS mark")
            for name, table in TABLES.items():
                view = "elasticity" if name == "indices" else name
                comment = f"key: {', '.join(table.key)}"
                connection.execute(f"COMMENT ON VIEW {view} IS {_quoted(comment)}")
    except duckdb.Error as e:
        raise ResultsError(f"cannot write {DATABASE}: {str(e).splitlines()[0]}") from e


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def one_line(message: str) -> str:
    """A message of DuckDB's without its excerpt of the SQL, on one line."""
    kept = message.split("\n\nLINE ")[0]
    return " ".join(part.strip() for part in kept.splitlines() if part.strip())
