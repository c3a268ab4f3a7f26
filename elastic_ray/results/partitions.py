"""Where a table's rows are: its partition folders, state files and compacted files.

A state's rows are in its own file `one-*`, in one or more compacted files `many-*`, or in both.
`Partitions` finds them; `compaction` describes when compacted files are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from .errors import ResultsError
from .file_names import (
    EMPTY,
    is_compacted_file,
    is_state_file,
    partition_folder,
    state_file,
    state_id_of,
    sweep_file,
)
from .parquet_files import read_replaced, read_rows
from .storage.folder import Folder
from .tables import Table


class Partitions:
    """The partition files in a results folder.

    Footers of compacted files are read once per instance: such a file never changes.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._replaced: dict[str, frozenset[str]] = {}

    def folders(self, table: Table) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield (folder, its values) of each partition, e.g. ("responses/probe_id=ab", ("ab",))."""
        columns = table.partitions if table.per == "state_id" else ("sweep",)
        found: list[tuple[str, tuple[str, ...]]] = [(table.name, ())]
        for column in columns:
            start = f"{column}="
            found = [
                (f"{folder}/{name}", (*values, unquote(name.removeprefix(start))))
                for folder, values in found
                for name in self.folder.names(folder)
                if name.startswith(start) and name != start + EMPTY
            ]
        yield from found

    def has(self, table: Table, key: dict[str, str]) -> bool:
        """Return whether rows with that file key are recorded."""
        if table.per == "sweep":
            return self.folder.exists(sweep_file(table, key["sweep"]))
        if self.folder.exists(state_file(table, key)):
            return True
        compacted = self._compacted(table, partition_folder(table, key))
        return any(key["state_id"] in replaced for _, replaced in compacted)

    def read(self, table: Table, key: dict[str, str]) -> pa.Table:
        """Return the rows with that file key; `ResultsError` if they are not recorded."""
        per_state = table.per == "state_id"
        name = state_file(table, key) if per_state else sweep_file(table, key["sweep"])
        try:
            return read_rows(self.folder, table, name)
        except FileNotFoundError:
            pass  # never written, or compacted
        if per_state:
            compacted = self._compacted(table, partition_folder(table, key))
            for path, replaced in reversed(compacted):
                if key["state_id"] in replaced:
                    only = pc.field("state_id") == key["state_id"]
                    return read_rows(self.folder, table, path, filters=only)
        raise ResultsError(f"{table.name} of {key} is not recorded in {self.folder.uri}")

    def recorded(self, table: Table) -> set[tuple[str, ...]]:
        """Return the file keys that are recorded, from file names and footers only."""
        found: set[tuple[str, ...]] = set()
        for folder, values in self.folders(table):
            if table.per == "sweep":
                if self.folder.exists(f"{folder}/{table.name}.parquet"):
                    found.add(values)
                continue
            names = self.folder.names(folder)
            found.update((state_id_of(name), *values) for name in names if is_state_file(name))
            for _, replaced in self._compacted(table, folder, names):
                found.update((state_id, *values) for state_id in replaced)
        return found

    def newest(self, table: Table, folder: str, names: Iterable[str]) -> dict[str, str]:
        """Map each state to the newest of the compacted files among `names` that holds it."""
        compacted = self._compacted(table, folder, names)
        return {state_id: path for path, replaced in compacted for state_id in replaced}

    def _compacted(
        self, table: Table, folder: str, names: Iterable[str] | None = None
    ) -> list[tuple[str, frozenset[str]]]:
        """Return (path, states it replaces) of each compacted file in the folder, oldest first."""
        found = []
        for name in self.folder.names(folder) if names is None else names:
            if is_compacted_file(name):
                path = f"{folder}/{name}"
                if path not in self._replaced:
                    self._replaced[path] = frozenset(read_replaced(self.folder, table, path))
                found.append((path, self._replaced[path]))
        return found
