"""Merges many small files into one, so that a reader sees every row exactly once at any moment.

A compacted file `many-<effective from>-<hash>.parquet` holds the rows of many `one-*` files of the
same folder and lists their states in its footer. It is renamed into place when complete, and
readers use it from the moment in its name, a little later (`views.sql` says why). The small files
stay until `grace` seconds after that moment, for queries that began before it; a later pass deletes
them all at once. A compacted file is never compacted again, changed or deleted. A process killed at
any point leaves nothing to repair. One process compacts at a time; others read and write freely.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from .arrow_rows import same_rows
from .errors import ResultsError
from .file_names import effective_from, is_compacted_file, is_state_file, state_id_of
from .parquet_files import parquet_bytes, read_rows
from .schemas import TABLES
from .storage.folder import Folder
from .store import Results
from .tables import Table

GRACE = 600.0
"""Seconds that replaced files stay after the compacted file has taken effect."""
DELAY = 30.0
"""Seconds from a compacted file's appearance until it takes effect."""
LOCK = ".compaction.lock"


@dataclass(frozen=True)
class Compaction:
    """The outcome of one pass: files written and deleted, rows copied, messages of unreadable
    files, and whether another process was compacting."""

    written: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    rows: int = 0
    unreadable: tuple[str, ...] = ()
    busy: bool = False


def compact(
    results: Results,
    *,
    grace: float = GRACE,
    delay: float = DELAY,
    at_least: int = 64,
    at_most: int = 2048,
    alone: bool = False,
) -> Compaction:
    """Run one pass over all tables: delete files replaced by earlier passes, then merge new ones.

    Folders with fewer than `at_least` small files are skipped; a compacted file takes up to
    `at_most` of them, which bounds memory. `delay` is the time in seconds from a file's appearance
    until it takes effect: more than the clock skew between the machines that read. `grace` is the
    time in seconds that replaced files stay from then on: longer than a query takes to list files.

    DuckDB cannot skip a file that is deleted between listing and reading: a query that runs at the
    moment of deletion may fail with "No such file"; it never returns wrong rows. `Results.query`
    retries by itself; another client has to.

    If another process is compacting, nothing is done and `busy` is set. A remote filesystem has no
    lock: there the caller guarantees with `alone` that no other process compacts, else
    `ResultsError`.
    """
    if results.folder.local is None and not alone:
        raise ResultsError(
            f"{results.uri} has no locks: make sure that one process compacts, and pass alone=True"
        )
    with _lock(results.folder) as locked:
        if not locked:
            return Compaction(busy=True)
        written: list[str] = []
        deleted: list[str] = []
        unreadable: list[str] = []
        rows = 0
        for table in TABLES.values():
            if table.per == "sweep":
                continue
            for folder, _ in results.partitions.folders(table):
                deleted += _delete_replaced(results, table, folder, grace)
                waiting = _not_compacted(results, table, folder)
                while len(waiting) >= max(at_least, 1):
                    batch, waiting = waiting[:at_most], waiting[at_most:]
                    name, count, bad = _merge(results, table, folder, batch, delay, at_least)
                    unreadable += bad
                    rows += count
                    written += [name] if name else []
        return Compaction(tuple(written), tuple(deleted), rows, tuple(unreadable))


def _not_compacted(results: Results, table: Table, folder: str) -> list[str]:
    """Return the small files that no compacted file replaces."""
    names = results.folder.names(folder)
    newest = results.partitions.newest(table, folder, names)
    small = [name for name in names if is_state_file(name)]
    if table.name != "states":
        return [name for name in small if state_id_of(name) not in newest]
    compacted = _CompactedStates(results, newest)
    return [
        name
        for name in small
        if state_id_of(name) not in newest or compacted.differs(f"{folder}/{name}")
    ]


def _merge(
    results: Results,
    table: Table,
    folder: str,
    batch: Sequence[str],
    delay: float,
    at_least: int,
) -> tuple[str | None, int, list[str]]:
    """Write one compacted file; return its name, its row count, and messages of unreadable files.

    The name is None where fewer than `at_least` files could be merged.
    """
    parts: list[pa.Table] = []
    states: list[str] = []
    bad: list[str] = []
    for name in batch:
        try:
            part = read_rows(results.folder, table, f"{folder}/{name}")
        except ResultsError as e:
            bad.append(str(e))
            continue
        if table.name == "states" and part["status"][0].as_py() != "done":
            continue  # it may be tried again
        parts.append(part)
        states.append(state_id_of(name))
    if len(parts) < max(at_least, 1):
        return None, 0, bad
    order = sorted(range(len(states)), key=states.__getitem__)
    rows = pa.concat_tables([parts[i] for i in order])
    states.sort()
    digest = hashlib.sha256("\n".join([folder, *states]).encode()).hexdigest()[:12]
    start = round((time.time() + delay) * 1000)
    name = f"{folder}/many-{start:013d}-{digest}.parquet"
    results.folder.put(name, parquet_bytes(table, rows, replaces=states))
    return name, rows.num_rows, bad


def _delete_replaced(results: Results, table: Table, folder: str, grace: float) -> list[str]:
    """Delete small files `grace` seconds after their compacted file took effect; return them."""
    names = results.folder.names(folder)
    before = (time.time() - grace) * 1000
    old = [name for name in names if is_compacted_file(name) and effective_from(name) <= before]
    newest = results.partitions.newest(table, folder, old)
    small = [
        f"{folder}/{name}" for name in names if is_state_file(name) and state_id_of(name) in newest
    ]
    if table.name == "states":  # a file that has changed since is the record
        compacted = _CompactedStates(results, newest)
        small = [path for path in small if not compacted.differs(path)]
    results.folder.delete(small)  # all at once: a query that has listed them fails and retries
    return small


class _CompactedStates:
    """Compares a state's own file with its compacted row; reads each compacted file once."""

    def __init__(self, results: Results, newest: dict[str, str]) -> None:
        self._folder = results.folder
        self._newest = newest
        self._rows: dict[str, dict[str, pa.Table]] = {}

    def differs(self, path: str) -> bool:
        """Return whether the state's own file differs from its compacted row or is unreadable."""
        state_id = state_id_of(path.rpartition("/")[2])
        compacted = self._newest[state_id]
        if compacted not in self._rows:
            rows = read_rows(self._folder, TABLES["states"], compacted)
            ids = rows["state_id"].to_pylist()
            self._rows[compacted] = {name: rows.slice(i, 1) for i, name in enumerate(ids)}
        try:
            own = read_rows(self._folder, TABLES["states"], path)
        except ResultsError:
            return True  # left for a person to inspect
        return not same_rows(own, self._rows[compacted][state_id])


@contextlib.contextmanager
def _lock(folder: Folder) -> Iterator[bool]:
    """Yield whether this process holds the lock; the lock ends with the process."""
    if folder.local is None:
        yield True
        return
    import fcntl

    descriptor = os.open(folder.local / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
