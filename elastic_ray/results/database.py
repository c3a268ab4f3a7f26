"""The views of `views.sql` in DuckDB: in memory for this package, in `elastic.duckdb` for others.

`connect` returns a connection that can read the results and nothing else: no other file, no
network, no changed setting. `run` also refuses every statement that is not a single SELECT
(`statements.check_reads_only`).
"""

from __future__ import annotations

import contextlib
import hashlib
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

from .errors import ResultsError
from .file_names import empty_files
from .parquet_files import damaged_file, empty_bytes
from .schemas import TABLES
from .statements import check_reads_only
from .storage.folder import Folder

DATABASE = "elastic.duckdb"

# The only constant by which a database knows where it lies is the default of the setting
# `temp_directory`: the path of the opened file and ".tmp".
_FOLLOWS = Template(r"""
CREATE OR REPLACE MACRO root() AS CASE
    WHEN current_setting('temp_directory') LIKE '%/elastic.duckdb.tmp'
    THEN regexp_replace(
        current_setting('temp_directory')[: -length('/elastic.duckdb.tmp') - 1],
        '([*?\\[])', '[\1]', 'g')
    ELSE '$root' END
""")
"""Makes the views read the folder in which the file lies, wherever it was copied or moved to."""
_AT_HOME = Template("""
CREATE OR REPLACE MACRO at_home() AS (
    SELECT CASE
        WHEN current_setting('temp_directory') LIKE '%/elastic.duckdb.tmp' AND (
            count(*) FILTER (path LIKE '%/elastic.duckdb') > 1
            OR (count(*) FILTER (path = '$home') > 0
                AND current_setting('temp_directory') <> '$home.tmp'))
        THEN error('several elastic.duckdb are open: start duckdb without a file and ATTACH each')
        WHEN current_setting('temp_directory') LIKE '%/elastic.duckdb.tmp'
            OR count(*) FILTER (path = '$home') > 0
        THEN true
        ELSE error('elastic.duckdb was copied or moved here: open it on its own, or run a sweep '
            || 'with --results on its folder once, before it is attached')
        END
    FROM duckdb_databases())
""")
"""Keeps a file that another client attaches, and that cannot know its path, from reading the folder
that it was copied from, or that of the file that the client has opened."""
_RETRY_SECONDS = 30.0
_NOT_THE_FILE = (duckdb.ConversionException, duckdb.CatalogException, duckdb.PermissionException)


def connect(folder: Folder, settings: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """Return an in-memory connection with the views, without access to anything but `folder`."""
    try:
        connection = duckdb.connect(":memory:", config=dict(settings))
    except (duckdb.Error, TypeError) as e:
        raise ResultsError(f"DuckDB refuses the settings {dict(settings)}: {e}") from e
    if "temp_directory" not in settings:
        # The default is a folder in the current directory.
        spill = str(Path(tempfile.gettempdir(), f"elastic-ray-duckdb-{os.getpid()}"))
        connection.execute(f"SET temp_directory = {_quoted(spill)}")
    allowed = [f"{folder.address}/", f"{_pattern(folder)}/"]
    if folder.fsspec is not None:
        connection.register_filesystem(folder.fsspec)
        # fsspec lists memory://a/b as memory:///a/b.
        scheme, _, path = folder.address.partition("://")
        allowed.append(f"{scheme}:///{path.strip('/')}/")
    with contextlib.ExitStack() as on_error:
        on_error.callback(connection.close)
        _define_views(connection, folder)
        connection.execute("SET TimeZone = 'UTC'")  # otherwise times are shown as the machine's
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
    """Return the rows of one SELECT over the views; every failure is a `ResultsError`.

    A query that runs while compaction deletes small files may find one of them missing; it is then
    retried for up to half a minute.
    """
    check_reads_only(connection, sql)
    give_up, pause = time.monotonic() + _RETRY_SECONDS, 0.02
    while True:
        try:
            return connection.sql(sql, params=parameters).to_arrow_table()
        except duckdb.Error as e:
            name = _file_named_in(str(e), folder)
            if name is None or isinstance(e, _NOT_THE_FILE) or "No files found" in str(e):
                raise ResultsError(str(e)) from e
            if folder.exists(name) or time.monotonic() > give_up:
                raise damaged_file(folder, name, e) from e
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def _file_named_in(message: str, folder: Folder) -> str | None:
    """Return the results file that a DuckDB message names, relative to the folder."""
    start = "|".join({re.escape(folder.root), re.escape(folder.address)})
    found = re.search(rf"(?:{start})/([^\"'\n*]*?\.parquet)", message)
    return found[1] if found else None


def refresh(folder: Folder) -> str | None:
    """Write `elastic.duckdb` beside the tables if it is missing or out of date, atomically.

    Return a sentence for the user if another program has it open, so that it was left as it is.
    """
    follows = f"{_FOLLOWS.template}{_AT_HOME.template}"
    built_of = f"{duckdb.__version__}\n{_views_of(folder)}{follows}"
    version = hashlib.sha256(built_of.encode()).hexdigest()
    if folder.local is not None:
        target = folder.local / DATABASE
        if target.exists():
            try:
                with duckdb.connect(str(target), read_only=True) as existing:
                    if existing.execute("SELECT mark FROM views_of").fetchall() == [(version,)]:
                        return None
            except (duckdb.ConnectionException, duckdb.IOException) as e:
                if re.search(r"lock|different configuration|already (open|attached)", str(e)):
                    return (
                        f"{target} is open in another program and was left as it is; close it and "
                        "run again to bring its views up to date"
                    )
            except duckdb.Error:
                pass  # an older version, or not a database: written anew
    # Not in place: in the path of a database that it writes, DuckDB takes "?" for a query string.
    with tempfile.TemporaryDirectory() as scratch:
        temporary = Path(scratch, DATABASE)
        _build(temporary, folder, version)
        folder.put(DATABASE, temporary.read_bytes())
    return None


def _build(path: Path, folder: Folder, version: str) -> None:
    try:
        # A storage version that any DuckDB 1.x can open.
        config: dict[str, Any] = {"storage_compatibility_version": "v1.2.0"}
        with duckdb.connect(str(path), config=config) as connection:
            _define_views(connection, folder)
            if folder.local is not None:
                connection.execute(_FOLLOWS.substitute(root=_escaped(_pattern(folder))))
                home = _escaped(str(folder.local / DATABASE))
                connection.execute(_AT_HOME.substitute(home=home))
            connection.execute(f"CREATE VIEW views_of AS SELECT '{version}' AS mark")
            for name, table in TABLES.items():
                view = "elasticity" if name == "indices" else name
                comment = f"key: {', '.join(table.key)}"
                connection.execute(f"COMMENT ON VIEW {view} IS {_quoted(comment)}")
    except duckdb.Error as e:
        raise ResultsError(f"cannot write {DATABASE}: {str(e).splitlines()[0]}") from e


def _define_views(connection: duckdb.DuckDBPyConnection, folder: Folder) -> None:
    """Create the views, first over empty tables, then point them at the right folder.

    DuckDB reads the files behind a view while creating it, which may be tens of thousands.
    """
    with tempfile.TemporaryDirectory(prefix="elastic-ray-") as scratch:
        for table in TABLES.values():
            for name in empty_files(table):
                path = Path(scratch, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(empty_bytes(table))
        connection.execute(_views_sql(scratch))
    statements = connection.extract_statements(_views_of(folder))
    macro = next(s for s in statements if "root()" in s.query)
    connection.execute(macro.query.replace("CREATE MACRO", "CREATE OR REPLACE MACRO"))


def _views_of(folder: Folder) -> str:
    return _views_sql(_pattern(folder))


def _views_sql(root: str) -> str:
    text = Path(__file__).with_name("views.sql").read_text(encoding="utf-8")
    return Template(text).substitute(root=_escaped(root))


def _pattern(folder: Folder) -> str:
    """Return the folder's address with the characters of file name patterns escaped."""
    return re.sub(r"([*?\[])", r"[\1]", folder.address)


def _escaped(text: str) -> str:
    return text.replace("'", "''")


def _quoted(text: str) -> str:
    return f"'{_escaped(text)}'"
