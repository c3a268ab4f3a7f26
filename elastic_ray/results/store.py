"""`Results`: writes and reads the recorded rows of sweeps; the only way into a results folder.

Each table has one Parquet file per state, or per sweep for `cells`, `indices` and similar tables.
A file under its final name is the record, and nothing else is. A file is written once: writing the
same rows again changes nothing, and different rows raise `AlreadyRecorded`, except that a failed
state may be tried again. `compaction` merges many such files into one; every method here also reads
compacted files.

    results = Results("results")                          # or "s3://bucket/results"
    results.write("scores", rows, state_id=s, probe_id=p, scorer="sentiment")
    results.recorded("scores")                            # {(s, p, "sentiment"), ...}

Errors are `ResultsError` and name the file or value. Two processes may write into one folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from ..checkpoints.reference import CheckpointReference
from . import database
from .arrow_rows import Rows, same_rows, to_table
from .errors import AlreadyRecorded, ResultsError
from .file_names import check_key, empty_files, state_file, sweep_file
from .parquet_files import empty_bytes, parquet_bytes
from .partitions import Partitions
from .schemas import TABLES, table_named
from .state_rows import SUMMARY_COLUMNS
from .storage.folder import Folder
from .storage.object_store import DEFAULT_ATTEMPTS, PATIENT_ATTEMPTS


class Results:
    """The results under `uri`, created unless `read_only`.

    Raises `ResultsError` if there is nothing to read or the location is not writable. `patient`
    results retry a store that does not answer for longer (`object_store.PATIENT_ATTEMPTS`).
    `notice` is a sentence for the user about `elastic.duckdb`, or None.
    """

    def __init__(
        self, uri: str | os.PathLike[str], *, read_only: bool = False, patient: bool = False
    ) -> None:
        self.folder = Folder(uri, PATIENT_ATTEMPTS if patient else DEFAULT_ATTEMPTS)
        self.uri = self.folder.uri
        self.partitions = Partitions(self.folder)
        self.notice: str | None = None
        if read_only:
            self._check_readable()
        else:
            self._prepare()

    def _check_readable(self) -> None:
        if not self.folder.exists():
            raise ResultsError(f"no such results folder: {self.uri}")
        if not self.folder.exists(empty_files(TABLES["states"])[0]):
            raise ResultsError(f"{self.uri} holds no results; run a sweep with --results there")

    def _prepare(self) -> None:
        """Create what is missing, remove stale temporary files, and update `elastic.duckdb`."""
        for table in TABLES.values():
            for name in empty_files(table):
                if not self.folder.exists(name):
                    self.folder.put(name, empty_bytes(table))
        self.folder.remove_stale_files(tuple(TABLES))
        self.notice = database.refresh(self.folder)

    # Writing

    def write(self, table_name: str, rows: Rows, **key: str) -> None:
        """Record the rows of one file, e.g. `write("responses", rows, state_id=s, probe_id=p)`.

        `rows` are mappings or an Arrow table; columns of `key` may be left out of them. For
        `states`, `state_id` may be given in the row. An existing record stays: `AlreadyRecorded`
        if it differs, unless it is a failed state.
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
                    f"{table.name} of {key} is recorded already, with different rows; they stay"
                )
        self.folder.put(state_file(table, key), parquet_bytes(table, new))

    def replace(self, table_name: str, sweep: str, rows: Rows) -> None:
        """Write a sweep's rows of a per-sweep table in place of its previous ones, atomically.

        `ResultsError` for a table with one file per state (see `write`) or rows that do not fit.
        """
        table = table_named(table_name)
        if table.per != "sweep":
            raise ResultsError(f"{table.name} has one file per state: use write")
        key = {"sweep": sweep}
        check_key(table, key)
        self.folder.put(sweep_file(table, sweep), parquet_bytes(table, to_table(table, rows, key)))

    def delete_checkpoint(self, state_id: str) -> None:
        """Delete the state's checkpoint folder; the record is changed first."""
        self._set_checkpoint(state_id, {"checkpoint": None})
        self.folder.delete_folder(self.checkpoint_name(state_id))

    def restore_checkpoint(self, state_id: str, checkpoint: str, checksum: str) -> None:
        """Record that a deleted checkpoint exists again, with its present checksum."""
        self._set_checkpoint(state_id, {"checkpoint": checkpoint, "checksum": checksum})

    def _set_checkpoint(self, state_id: str, change: Mapping[str, Any]) -> None:
        row = self.state(state_id)
        if row is None:
            raise ResultsError(f"no state {state_id} is recorded")
        if any(row[name] != value for name, value in change.items()):
            table, key = TABLES["states"], {"state_id": state_id}
            new = to_table(table, [{**row, **change}], key)
            self.folder.put(state_file(table, key), parquet_bytes(table, new))

    # Reading

    def has(self, table_name: str, **key: str) -> bool:
        """Return whether rows with that file key are recorded (for `states`: done or failed)."""
        table = table_named(table_name)
        check_key(table, key)
        return self.partitions.has(table, key)

    def read(self, table_name: str, **key: str) -> pa.Table:
        """Return the rows with that file key, in the declared schema, sorted by primary key.

        `ResultsError` if they are not recorded.
        """
        table = table_named(table_name)
        check_key(table, key)
        return self.partitions.read(table, key)

    def recorded(self, table_name: str) -> set[tuple[str, ...]]:
        """Return the recorded file keys, from file names and footers only.

        (state_id,) for states, (state_id, probe_id) for responses, (state_id, probe_id, scorer)
        for scores, (state_id, reference_id, probe_id), (state_id, corpus), (sweep,).
        """
        return self.partitions.recorded(table_named(table_name))

    def state(self, state_id: str) -> dict[str, Any] | None:
        """Return the state's record, or None; see the `states` table."""
        if not self.has("states", state_id=state_id):
            return None
        rows: list[dict[str, Any]] = self.read("states", state_id=state_id).to_pylist()
        return rows[0]

    def states(self, columns: Sequence[str] = SUMMARY_COLUMNS) -> dict[str, dict[str, Any]]:
        """Map the state_id of every recorded state, done or failed, to the chosen columns.

        Reads some 5,000 files a second before compaction, a million rows a second after.
        """
        chosen = ["state_id", *(name for name in columns if name != "state_id")]
        for name in chosen:
            if name not in TABLES["states"].schema.names:
                raise ResultsError(f"table states has no column {name!r}")
        rows = self.query(f"SELECT {', '.join(chosen)} FROM states").to_pylist()
        return {row["state_id"]: row for row in rows}

    def cells(self, sweep: str) -> list[dict[str, Any]]:
        """Return the sweep's cells as recorded, like the view `cells`; empty if it has none."""
        rows: list[dict[str, Any]] = []
        if self.has("cells", sweep=sweep):
            rows = self.read("cells", sweep=sweep).to_pylist()
        return rows

    def score_rows(
        self, sweep: str, connection: duckdb.DuckDBPyConnection | None = None
    ) -> pa.Table:
        """Return the scores of the sweep's cells for `elasticity`: one row per cell and prompt.

        Columns model, task, pretrain, positive, negative, seed, prompt_index, score (the mean over
        samples). Cells that share a state repeat its scores. `connection` is as in `query`.
        """
        key = "model, task, pretrain, positive, negative, seed, prompt_index"
        rows = f"FROM score_rows WHERE sweep = $sweep ORDER BY {key}"
        parameters = {"sweep": sweep}
        most = self.query("SELECT max(sample) FROM scores", None, connection).column(0)[0].as_py()
        if most in (None, 0):
            return self.query(f"SELECT {key}, score {rows}", parameters, connection)
        grouped = rows.replace(" ORDER BY", " GROUP BY ALL ORDER BY")
        return self.query(f"SELECT {key}, avg(score) AS score {grouped}", parameters, connection)

    def sweep_rows(self, view: str, sweep: str) -> list[dict[str, Any]]:
        """Return one sweep's rows of a view that has a column `sweep`, sorted (see `views.sql`).

        Also raises `ResultsError` if the results were written by a version without that view; the
        next run of a sweep adds it.
        """
        if not view.isidentifier():
            raise ResultsError(f"{view!r} is not the name of a view")
        sql = f"FROM {view} WHERE sweep = $sweep ORDER BY ALL"
        rows: list[dict[str, Any]] = self.query(sql, {"sweep": sweep}).to_pylist()
        return rows

    def connect(self, settings: Mapping[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection to the views that can access nothing but these results.

        `settings` are DuckDB's, e.g. {"memory_limit": "2GB", "max_execution_time": 10_000}; they
        are locked. Check statements from users with `check_reads_only` first.
        """
        return database.connect(self.folder, settings or {})

    def query(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        connection: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.Table:
        """Return the rows of one SELECT over the views as an Arrow table; `$name` are parameters.

        `connection` comes from `connect`, or is a cursor of it; by default one is made (0.1 s).
        `ResultsError` for a statement that does not only read, SQL errors and damaged files.
        """
        if connection is not None:
            return database.run(self.folder, connection, sql, parameters)
        with self.connect() as made:
            return database.run(self.folder, made, sql, parameters)

    # Locations

    def checkpoint_name(self, state_id: str) -> str:
        """Return the state's checkpoint folder relative to the results, as `states.checkpoint`."""
        check_key(TABLES["states"], {"state_id": state_id})
        return str(CheckpointReference.of_state(state_id))

    def location(self, name: str) -> str:
        """Return the absolute path or URI of a name relative to the results."""
        return self.folder.location(name)

    def log_location(self, name: str) -> str:
        """Return the absolute path or URI of the log of that name."""
        return self.location(f"logs/{name}")
