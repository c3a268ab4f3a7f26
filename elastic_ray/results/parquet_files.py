"""The content of one Parquet file of a table: its bytes, its rows, its footer.

Reading raises `FileNotFoundError` for a missing file, and for a damaged or foreign file a
`ResultsError` that names it and says how to repair the results.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import ResultsError
from .storage.folder import Folder
from .tables import Table


def parquet_bytes(table: Table, rows: pa.Table, replaces: Sequence[str] | None = None) -> pa.Buffer:
    """Return the bytes of a file with `rows`.

    `replaces` makes it a compacted file: its footer lists the states whose files it replaces.
    """
    metadata = dict(table.stored_schema.metadata)
    if replaces is not None:
        metadata[b"replaces"] = json.dumps(list(replaces)).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows.replace_schema_metadata(metadata), sink, compression="zstd", row_group_size=122_880
    )
    return sink.getvalue()


def empty_bytes(table: Table) -> pa.Buffer:
    """Return the bytes of a file without rows, which is also a valid compacted file."""
    return parquet_bytes(table, table.schema.empty_table(), replaces=())


def read_rows(
    folder: Folder, table: Table, name: str, filters: pc.Expression | None = None
) -> pa.Table:
    """Return a file's rows in the declared schema."""
    rows = _read(folder, name, filters)
    missing = [column for column in table.schema.names if column not in rows.column_names]
    if missing:
        raise damaged_file(folder, name, f"it has no column {missing[0]}")
    try:
        if rows.schema != table.schema:
            rows = rows.select(table.schema.names).cast(table.schema)
    except (pa.ArrowException, ValueError) as e:
        raise damaged_file(folder, name, e) from e
    return rows.replace_schema_metadata(table.stored_schema.metadata)


def _read(folder: Folder, name: str, filters: pc.Expression | None) -> pa.Table:
    try:
        with folder.filesystem.open_input_file(folder.path(name)) as source:
            if filters is not None:
                return pq.read_table(source, filters=filters)
            return pq.ParquetFile(source).read()  # several times faster for a small file
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as e:
        raise damaged_file(folder, name, e) from e


def read_replaced(folder: Folder, table: Table, name: str) -> list[str]:
    """Return the states whose files a compacted file replaces, from its footer."""
    footer = _footer(folder, name)
    if footer.get("elastic_ray.table") != table.name or "replaces" not in footer:
        raise damaged_file(folder, name, f"not a compacted file of {table.name}")
    states: list[str] = json.loads(footer["replaces"])
    return states


def _footer(folder: Folder, name: str) -> dict[str, str]:
    """Return the key-value entries that this package wrote into a file's footer."""
    try:
        with folder.filesystem.open_input_file(folder.path(name)) as source:
            entries = pq.read_metadata(source).metadata or {}
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as e:
        raise damaged_file(folder, name, e) from e
    # The value of ARROW:schema is binary.
    own = {k: v for k, v in entries.items() if not k.startswith(b"ARROW:")}
    return {key.decode(): value.decode() for key, value in own.items()}


def damaged_file(folder: Folder, name: str, reason: object) -> ResultsError:
    """Return the error for a damaged or foreign file: which file, why, and what to do."""
    first = str(reason).strip().split("\n")[0]
    advice = (
        "restore it from a copy, or delete it and run its sweeps again to compute its rows again"
        if name.rpartition("/")[2].startswith("many-")
        else "delete it and run its sweep again; nothing else is lost"
    )
    return ResultsError(f"{folder.path(name)} is damaged or not ours ({first}): {advice}")
