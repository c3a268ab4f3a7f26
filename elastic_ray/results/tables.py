"""What the declaration of one results table says: columns, key, files, and checked columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = "1"
"""Written into every file's footer; raised when a column changes its meaning."""


@dataclass(frozen=True)
class Table:
    """A results table.

    `schema` and `key` are its Arrow columns and primary key. Its files are laid out by `per`
    ("state_id" or "sweep": one file each) and by the folder columns `partitions`. The columns in
    `json` hold JSON text, those in `finite` no NaN or infinity, and those in `choices` only the
    listed values.
    """

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    partitions: tuple[str, ...] = ()
    per: str = "state_id"
    json: tuple[str, ...] = ()
    finite: tuple[str, ...] = ()
    choices: Mapping[str, tuple[str, ...]] | None = None

    @property
    def file_key(self) -> tuple[str, ...]:
        """The columns that identify a file, e.g. (state_id, probe_id, scorer)."""
        return (self.per, *self.partitions)

    @property
    def stored_schema(self) -> pa.Schema:
        """`schema` with the footer entries that mark a file as this table's."""
        mark = {"elastic_ray.table": self.name, "elastic_ray.schema": SCHEMA_VERSION}
        return self.schema.with_metadata(mark)


def table_schema(
    required: Mapping[str, pa.DataType], optional: Mapping[str, pa.DataType]
) -> pa.Schema:
    """Return the Arrow schema of columns that must have a value and columns that may be null."""
    return pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in required.items()]
        + [pa.field(name, kind) for name, kind in optional.items()]
    )
