"""How files are named, and a file's bytes.

    states/one-<state_id>.parquet
    responses/probe_id=<P>/one-<state_id>.parquet
    scores/probe_id=<P>/scorer=<S>/one-<state_id>.parquet      many-<in force from>-<hash>.parquet
    cells/sweep=<name>/cells.parquet

Values in folder names are percent-encoded. A partition `_empty` holds files without rows: they
give every view its columns before anything is recorded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from .schemas import ResultsError, Table

EMPTY = "_empty"
FIRST_MANY = "many-0000000000000-000000000000.parquet"

STATE_ID = re.compile(r"[0-9A-Za-z_.-]{1,64}")


def parquet(table: Table, rows: pa.Table, replaces: Sequence[str] | None = None) -> pa.Buffer:
    """A file's bytes; a compacted one lists in its footer the states whose files it replaces."""
    metadata = dict(table.stored_schema.metadata)
    if replaces is not None:
        metadata[b"replaces"] = json.dumps(list(replaces)).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows.replace_schema_metadata(metadata), sink, compression="zstd", row_group_size=122_880
    )
    return sink.getvalue()


def is_one(name: str) -> bool:
    """Whether a file name is that of one state's file."""
    return name.startswith("one-") and name.endswith(".parquet") and state_of(name) != EMPTY


def is_many(name: str) -> bool:
    """Whether a file name is that of a compacted file."""
    return name.startswith("many-") and name.endswith(".parquet") and name != FIRST_MANY


def state_of(name: str) -> str:
    """The state that `one-<state_id>.parquet` is about."""
    return name.removeprefix("one-").removesuffix(".parquet")


def partition(table: Table, key: Mapping[str, str]) -> str:
    folders = [f"{column}={quote(key[column], safe='')}" for column in table.partitions]
    return "/".join([table.name, *folders])


def one_file(table: Table, key: Mapping[str, str]) -> str:
    return f"{partition(table, key)}/one-{key['state_id']}.parquet"


def per_sweep_file(table: Table, sweep: str) -> str:
    return f"{table.name}/sweep={quote(sweep, safe='')}/{table.name}.parquet"


def empty_files(table: Table) -> list[str]:
    """Files without rows that give every view its columns before anything is recorded."""
    if table.per == "sweep":
        return [per_sweep_file(table, EMPTY).replace(f"/{table.name}.p", f"/{EMPTY}.p")]
    folder = partition(table, dict.fromkeys(table.partitions, EMPTY))
    return [f"{folder}/one-{EMPTY}.parquet", f"{folder}/{FIRST_MANY}"]


def check_key(table: Table, key: Mapping[str, Any]) -> None:
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
