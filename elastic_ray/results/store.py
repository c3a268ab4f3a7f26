"""What a sweep records, written and read: the only way into the results folder.

One Parquet file per state and table, or per sweep for `cells`, `indices` and the like; a
file that stands under its final name is the record, and nothing else is. A file is written once:
the same rows again change nothing, other rows raise `AlreadyRecorded`, except that a failed state
may be tried again. `compaction` gathers many such files into one; every method here sees through
that.

    results = Results("results")                          # or "s3://bucket/results"
    results.write("scores", rows, state_id=s, probe_id=p, scorer="sentiment")
    results.has("scores", state_id=s, probe_id=p, scorer="sentiment")     # True
    results.recorded("scores")                            # {(s, p, "sentiment"), ...}

Errors are `ResultsError` and name the file or the value. Two processes may write into one folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ..checkpoints.reference import CheckpointReference
from . import database
from .arrow_rows import Rows, same_rows, to_table
from .file_names import (
    EMPTY,
    check_key,
    empty_files,
    is_many,
    is_one,
    one_file,
    parquet,
    partition,
    per_sweep_file,
    state_of,
)
from .schemas import TABLES, AlreadyRecorded, ResultsError, Table, table_named
from .storage.folder import Folder
from .storage.object_store import ATTEMPTS, PATIENT

SUMMARY = ("kind", "status", "error", "parent_id", "checkpoint", "checksum", "parameters", "tokens")
"""The columns of a state that `Results.states` reads unless told otherwise."""


class Results:
    """The results under `uri`, created unless `read_only`.

    Raises `ResultsError` where there is nothing to read, or the place cannot be written; `patient`
    ones wait longer for a store that does not answer (`stores.PATIENT`).
    `notice` is a sentence for the user about `elastic.duckdb`, or None.
    """

    def __init__(
        self, uri: str | os.PathLike[str], *, read_only: bool = False, patient: bool = False
    ) -> None:
        self.folder = Folder(uri, PATIENT if patient else ATTEMPTS)
        self.uri = self.folder.uri
        self.notice: str | None = None
        self._replaced: dict[str, frozenset[str]] = {}
        if read_only:
            if not self.folder.exists():
                raise ResultsError(f"no such results folder: {self.uri}")
            if not self.folder.exists(empty_files(TABLES["states"])[0]):
                raise ResultsError(f"{self.uri} holds no results; run a sweep with --results there")
            return
        for table in TABLES.values():
            for name in empty_files(table):
                if not self.folder.exists(name):
                    self.folder.put(name, parquet(table, table.schema.empty_table(), replaces=()))
        self.folder.sweep(tuple(TABLES))
        self.notice = database.refresh(self.folder)

    # Writing

    def write(self, table_name: str, rows: Rows, **key: str) -> None:
        """Record the rows of one file, e.g. `write("responses", rows, state_id=s, probe_id=p)`.

        `rows` are mappings or an Arrow table; columns of `key` may be left out of them. For
        `states`, `state_id` may be given in the row. A record that exists is kept:
        `AlreadyRecorded` if it differs, unless it is a failed state.
        """
        table = table_named(table_name)
        if table.per != "state_id":
            raise ResultsError(f"{table.name} has one file per sweep: use replace")
        if table.name == "states" and not key and not isinstance(rows, pa.Table) and len(rows) == 1:
            key = {"state_id": rows[0].get("state_id", "")}
        check_key(table, key)
        new = to_table(table, rows, key)
        if new.num_rows == 0:
            raise ResultsError(f"{table.name}: no rows for {key}; a file records at least one")
        if table.name == "states" and new.num_rows > 1:
            raise ResultsError(f"states: {new.num_rows} rows for {key['state_id']}; give one")
        if self.has(table.name, **key):
            old = self.read(table.name, **key)
            if same_rows(old, new):
                return
            if table.name != "states" or old["status"][0].as_py() != "failed":
                raise AlreadyRecorded(
                    f"{table.name} of {key} is recorded already, with other rows; it stands"
                )
        self.folder.put(one_file(table, key), parquet(table, new))

    def delete_checkpoint(self, state_id: str) -> None:
        """Delete the state's checkpoint folder; the record says so first."""
        self._set_checkpoint(state_id, {"checkpoint": None})
        self.folder.delete_folder(self.checkpoint_name(state_id))

    def restore_checkpoint(self, state_id: str, checkpoint: str, checksum: str) -> None:
        """Record that a deleted checkpoint is there again, with the checksum it has now."""
        self._set_checkpoint(state_id, {"checkpoint": checkpoint, "checksum": checksum})

    def _set_checkpoint(self, state_id: str, change: Mapping[str, Any]) -> None:
        row = self.state(state_id)
        if row is None:
            raise ResultsError(f"no state {state_id} is recorded")
        if any(row[name] != value for name, value in change.items()):
            table = TABLES["states"]
            new = to_table(table, [{**row, **change}], {"state_id": state_id})
            self.folder.put(one_file(table, {"state_id": state_id}), parquet(table, new))

    def replace(self, table_name: str, sweep: str, rows: Rows) -> None:
        """Write a sweep's rows of a per-sweep table in place of its previous ones, atomically.

        `ResultsError` for a table with one file per state (see `write`) or rows that do not fit.
        """
        table = table_named(table_name)
        if table.per != "sweep":
            raise ResultsError(f"{table.name} has one file per state: use write")
        key = {"sweep": sweep}
        check_key(table, key)
        self.folder.put(per_sweep_file(table, sweep), parquet(table, to_table(table, rows, key)))

    # Reading

    def has(self, table_name: str, **key: str) -> bool:
        """Whether that file's rows are recorded (for `states`: done or failed)."""
        table = table_named(table_name)
        check_key(table, key)
        if table.per == "sweep":
            return self.folder.exists(per_sweep_file(table, key["sweep"]))
        if self.folder.exists(one_file(table, key)):
            return True
        many = self._compacted(table, partition(table, key))
        return any(key["state_id"] in replaced for _, replaced in many)

    def read(self, table_name: str, **key: str) -> pa.Table:
        """The rows of one file, in the declared schema, by key; `ResultsError` if not recorded."""
        table = table_named(table_name)
        check_key(table, key)
        name = (
            one_file(table, key) if table.per == "state_id" else per_sweep_file(table, key["sweep"])
        )
        try:
            return self.read_file(table, name)
        except FileNotFoundError:
            pass  # never written, or compacted
        if table.per == "state_id":
            for many, replaced in reversed(self._compacted(table, partition(table, key))):
                if key["state_id"] in replaced:
                    only = pc.field("state_id") == key["state_id"]
                    return self.read_file(table, many, filters=only)
        raise ResultsError(f"{table.name} of {key} is not recorded in {self.uri}")

    def state(self, state_id: str) -> dict[str, Any] | None:
        """The state's record, or None; see the `states` table."""
        if not self.has("states", state_id=state_id):
            return None
        rows: list[dict[str, Any]] = self.read("states", state_id=state_id).to_pylist()
        return rows[0]

    def states(self, columns: Sequence[str] = SUMMARY) -> dict[str, dict[str, Any]]:
        """state_id -> the chosen columns of every recorded state, done or failed.

        Some 5,000 files a second before compaction, a million rows a second after.
        """
        chosen = ["state_id", *(name for name in columns if name != "state_id")]
        for name in chosen:
            if name not in TABLES["states"].schema.names:
                raise ResultsError(f"table states has no column {name!r}")
        rows = self.query(f"SELECT {', '.join(chosen)} FROM states").to_pylist()
        return {row["state_id"]: row for row in rows}

    def recorded(self, table_name: str) -> set[tuple[str, ...]]:
        """The file keys that are recorded, told from file names and footers, not from rows.

        (state_id,) for states, (state_id, probe_id) for responses, (state_id, probe_id, scorer)
        for scores, (state_id, reference_id, probe_id), (state_id, corpus), (sweep,).
        """
        table = table_named(table_name)
        found: set[tuple[str, ...]] = set()
        for folder, values in self.partitions(table.name):
            if table.per == "sweep":
                if self.folder.exists(f"{folder}/{table.name}.parquet"):
                    found.add(values)
                continue
            names = self.folder.names(folder)
            found.update((state_of(name), *values) for name in names if is_one(name))
            for _, replaced in self._compacted(table, folder, names):
                found.update((state_id, *values) for state_id in replaced)
        return found

    def cells(self, sweep: str) -> list[dict[str, Any]]:
        """The sweep's cells as recorded; empty if it has none. The view `cells` is the same."""
        if not self.has("cells", sweep=sweep):
            return []
        rows: list[dict[str, Any]] = self.read("cells", sweep=sweep).to_pylist()
        return rows

    def score_rows(
        self, sweep: str, connection: duckdb.DuckDBPyConnection | None = None
    ) -> pa.Table:
        """The scores of the sweep's cells, for `elasticity`: one row per cell and prompt.

        Columns model, task, pretrain, positive, negative, seed, prompt_index, score (the mean over
        samples). Cells that share a state repeat its scores: (0, 0) for each seed, say.
        """
        key = "model, task, pretrain, positive, negative, seed, prompt_index"
        rows = f"FROM score_rows WHERE sweep = $sweep ORDER BY {key}"
        at = {"sweep": sweep}
        most = self.query("SELECT max(sample) FROM scores", None, connection).column(0)[0].as_py()
        if most in (None, 0):
            return self.query(f"SELECT {key}, score {rows}", at, connection)
        grouped = rows.replace(" ORDER BY", " GROUP BY ALL ORDER BY")
        return self.query(f"SELECT {key}, avg(score) AS score {grouped}", at, connection)

    def of_sweep(self, view: str, sweep: str) -> list[dict[str, Any]]:
        """The rows of a view with a column `sweep` (see `views.sql`) that are this sweep's, sorted.

        `ResultsError` also where the folder is older than the view, and a run has yet to bring it
        up to date.
        """
        if not view.isidentifier():
            raise ResultsError(f"{view!r} is no view's name")
        rows: list[dict[str, Any]] = self.query(
            f"FROM {view} WHERE sweep = $sweep ORDER BY ALL", {"sweep": sweep}
        ).to_pylist()
        return rows

    def connect(self, settings: Mapping[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection to the views that can reach nothing but these results.

        `settings` are DuckDB's, e.g. {"memory_limit": "2GB", "max_execution_time": 10_000}; they
        are locked. Statements from people go through `check_reads_only` first.
        """
        return database.connect(self.folder, settings or {})

    def query(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        connection: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.Table:
        """The rows of one SELECT over the views, as an Arrow table; `$name` are parameters.

        `connection` is one that `connect` gave, or its cursor; without, one is made (0.1 s).
        `ResultsError` for a statement that does more than read, SQL errors and damaged files.
        """
        if connection is not None:
            return database.run(self.folder, connection, sql, parameters)
        with self.connect() as made:
            return database.run(self.folder, made, sql, parameters)

    # Places

    def checkpoint_name(self, state_id: str) -> str:
        """The state's checkpoint folder relative to the results, as `states.checkpoint` has it."""
        check_key(TABLES["states"], {"state_id": state_id})
        return str(CheckpointReference.of_state(state_id))

    def location(self, name: str) -> str:
        """Where a relative name lies: an absolute path, or a URI (see `local_copy`)."""
        return self.folder.place(name)

    def log_location(self, name: str) -> str:
        """Where the log of that name lies."""
        return self.location(f"logs/{name}")

    # Files, for compaction

    def partitions(self, table_name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(folder, its values) of each partition, e.g. ("responses/probe_id=ab", ("ab",))."""
        table = table_named(table_name)
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

    def _compacted(
        self, table: Table, folder: str, names: Iterable[str] | None = None
    ) -> list[tuple[str, frozenset[str]]]:
        """(file, states it holds) of each compacted file in the folder, oldest first."""
        found = []
        for name in self.folder.names(folder) if names is None else names:
            if is_many(name):
                path = f"{folder}/{name}"
                if path not in self._replaced:
                    self._replaced[path] = frozenset(self._replaces(table, path))
                found.append((path, self._replaced[path]))
        return found

    def _replaces(self, table: Table, name: str) -> list[str]:
        footer = self.folder.footer(name)
        if footer.get("elastic_ray.table") != table.name or "replaces" not in footer:
            raise self.folder.unreadable(name, f"not a compacted file of {table.name}")
        states: list[str] = json.loads(footer["replaces"])
        return states

    def read_file(self, table: Table, name: str, filters: pc.Expression | None = None) -> pa.Table:
        """A file's rows in the declared schema; `FileNotFoundError` if it is not there."""
        rows = self.folder.read(name, filters)
        missing = [column for column in table.schema.names if column not in rows.column_names]
        if missing:
            raise self.folder.unreadable(name, f"it has no column {missing[0]}")
        try:
            if rows.schema != table.schema:
                rows = rows.select(table.schema.names).cast(table.schema)
        except (pa.ArrowException, ValueError) as e:
            raise self.folder.unreadable(name, e) from e
        return rows.replace_schema_metadata(table.stored_schema.metadata)

    def newest(self, table: Table, folder: str, names: Iterable[str]) -> dict[str, str]:
        """state_id -> the newest of the compacted files among `names` that holds it."""
        many = self._compacted(table, folder, names)
        return {state_id: path for path, replaced in many for state_id in replaced}
