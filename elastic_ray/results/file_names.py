"""How the files of the tables are named.

    states/one-<state_id>.parquet
    responses/probe_id=<P>/one-<state_id>.parquet
    scores/probe_id=<P>/scorer=<S>/one-<state_id>.parquet      many-<effective from>-<hash>.parquet
    cells/sweep=<name>/cells.parquet

A `one-*` file holds the rows of one state; a `many-*` file is a compacted one (see `compaction`).
Values in folder names are percent-encoded. A partition named `_empty` holds files without rows:
they give every view its columns before anything is recorded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .errors import ResultsError
from .tables import Table

EMPTY = "_empty"
FIRST_COMPACTED = "many-0000000000000-000000000000.parquet"

STATE_ID = re.compile(r"[0-9A-Za-z_.-]{1,64}")


def is_state_file(name: str) -> bool:
    """Return whether a file name is that of one state's file."""
    return name.startswith("one-") and name.endswith(".parquet") and state_id_of(name) != EMPTY


def is_compacted_file(name: str) -> bool:
    """Return whether a file name is that of a compacted file."""
    return name.startswith("many-") and name.endswith(".parquet") and name != FIRST_COMPACTED


def state_id_of(name: str) -> str:
    """Return the state id in `one-<state_id>.parquet`."""
    return name.removeprefix("one-").removesuffix(".parquet")


def effective_from(name: str) -> int:
    """Return the time in a compacted file's name from which readers use it (ms since 1970)."""
    return int(name.rpartition("/")[2].split("-")[1])


def partition_folder(table: Table, key: Mapping[str, str]) -> str:
    """Return the folder of the files with that key, e.g. `scores/probe_id=P/scorer=S`."""
    folders = [f"{column}={quote(key[column], safe='')}" for column in table.partitions]
    return "/".join([table.name, *folders])


def state_file(table: Table, key: Mapping[str, str]) -> str:
    """Return the name of one state's file in a table with one file per state."""
    return f"{partition_folder(table, key)}/one-{key['state_id']}.parquet"


def sweep_file(table: Table, sweep: str) -> str:
    """Return the name of one sweep's file in a table with one file per sweep."""
    return f"{table.name}/sweep={quote(sweep, safe='')}/{table.name}.parquet"


def empty_files(table: Table) -> list[str]:
    """Return the names of the files without rows that give the table's view its columns."""
    if table.per == "sweep":
        return [sweep_file(table, EMPTY).replace(f"/{table.name}.p", f"/{EMPTY}.p")]
    folder = partition_folder(table, dict.fromkeys(table.partitions, EMPTY))
    return [f"{folder}/one-{EMPTY}.parquet", f"{folder}/{FIRST_COMPACTED}"]


def check_key(table: Table, key: Mapping[str, Any]) -> None:
    """Raise `ResultsError` unless `key` has exactly the table's file key, in usable strings."""
    if set(key) != set(table.file_key):
        raise ResultsError(
            f"{table.name} is recorded by {', '.join(table.file_key)}; "
            f"got {', '.join(key) or 'none of them'}"
        )
    for column, value in key.items():
        where = f"{table.name}.{column}"
        if not isinstance(value, str):
            raise ResultsError(f"{where}: {value!r} is not a string")
        if column == "state_id":
            if not STATE_ID.fullmatch(value) or value == EMPTY:
                raise ResultsError(f"{where}: {value!r} is not an id (1-64 of 0-9 A-Z a-z _ . -)")
        elif value in ("", "__HIVE_DEFAULT_PARTITION__") or len(quote(value, safe="")) > 200:
            raise ResultsError(f"{where}: {value!r} cannot name a folder (1 to 200 bytes)")
        elif "\0" in value or value == EMPTY:
            raise ResultsError(f"{where}: {value!r} is reserved")
