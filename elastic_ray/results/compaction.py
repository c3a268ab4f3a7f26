"""Many small files made one, without a moment in which a reader sees a row twice or not at all.

A compacted file `many-<in force from>-<hash>.parquet` holds the rows of many `one-*` files of the
same folder and lists their states in its footer. It appears complete, under a temporary name
renamed, and counts a little later, at the moment in its name (`views.sql` says why). The small
files stay until `grace` seconds after that, for queries that began before it; a later pass
deletes them, in one go. A compacted file is never compacted again, changed or deleted. A process
killed at any point leaves nothing to repair. One process compacts at a time; readers and writers
need not know.
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
from .file_names import is_many, is_one, parquet, state_of
from .schemas import TABLES, ResultsError, Table
from .storage.folder import Folder
from .store import Results

GRACE = 600.0
DELAY = 30.0
LOCK = ".compaction.lock"


@dataclass(frozen=True)
class Compaction:
    """What one pass did: files written and deleted, rows copied, and files it could not read."""

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
    """One pass over all tables: delete what earlier passes replaced, then gather what has piled up.

    Folders with fewer than `at_least` small files are left; a compacted file takes up to `at_most`,
    which bounds memory. `delay` is the seconds from a file's appearance until it counts: more than
    the clocks of the machines that read differ by. `grace` is the seconds that replaced files stay
    from then on: more than a query takes to list the files.

    DuckDB cannot skip a file that is deleted between its listing and its reading: a query under way
    in the moment of deletion may fail with "No such file". It is never answered wrongly.
    `Results.query` asks again by itself; another client has to.

    Where another process is compacting, nothing is done and `busy` is set. A remote filesystem has
    no lock: there the caller says with `alone` that no other process compacts; else `ResultsError`.
    """
    if results.folder.local is None and not alone:
        raise ResultsError(
            f"{results.uri} has no locks: make sure that one process compacts, and pass alone=True"
        )
    with _lock(results.folder) as held:
        if not held:
            return Compaction(busy=True)
        written: list[str] = []
        deleted: list[str] = []
        unreadable: list[str] = []
        rows = 0
        for table in TABLES.values():
            if table.per == "sweep":
                continue
            for folder, _ in results.partitions(table.name):
                deleted += _delete_replaced(results, table, folder, grace)
                waiting = _waiting(results, table, folder)
                while len(waiting) >= max(at_least, 1):
                    batch, waiting = waiting[:at_most], waiting[at_most:]
                    name, count, bad = _gather(results, table, folder, batch, delay, at_least)
                    unreadable += bad
                    rows += count
                    written += [name] if name else []
        return Compaction(tuple(written), tuple(deleted), rows, tuple(unreadable))


def _waiting(results: Results, table: Table, folder: str) -> list[str]:
    """The small files that no compacted file replaces."""
    names = results.folder.names(folder)
    newest = results.newest(table, folder, names)
    ones = [name for name in names if is_one(name)]
    if table.name != "states":
        return [name for name in ones if state_of(name) not in newest]
    compacted = _State(results, newest)
    return [n for n in ones if state_of(n) not in newest or compacted.differs(f"{folder}/{n}")]


def _gather(
    results: Results,
    table: Table,
    folder: str,
    batch: Sequence[str],
    delay: float,
    at_least: int,
) -> tuple[str | None, int, list[str]]:
    parts: list[pa.Table] = []
    states: list[str] = []
    bad: list[str] = []
    for name in batch:
        try:
            part = results.read_file(table, f"{folder}/{name}")
        except ResultsError as e:
            bad.append(str(e))
            continue
        if table.name == "states" and part["status"][0].as_py() != "done":
            continue  # it may be tried again
        parts.append(part)
        states.append(state_of(name))
    if len(parts) < max(at_least, 1):
        return None, 0, bad
    order = sorted(range(len(states)), key=states.__getitem__)
    rows = pa.concat_tables([parts[i] for i in order])
    states.sort()
    digest = hashlib.sha256("\n".join([folder, *states]).encode()).hexdigest()[:12]
    in_force = round((time.time() + delay) * 1000)
    name = f"{folder}/many-{in_force:013d}-{digest}.parquet"
    results.folder.put(name, parquet(table, rows, replaces=states))
    return name, rows.num_rows, bad


def _delete_replaced(results: Results, table: Table, folder: str, grace: float) -> list[str]:
    names = results.folder.names(folder)
    before = (time.time() - grace) * 1000
    old = [name for name in names if is_many(name) and in_force_from(name) <= before]
    newest = results.newest(table, folder, old)
    compacted = _State(results, newest)
    small = [f"{folder}/{name}" for name in names if is_one(name) and state_of(name) in newest]
    if table.name == "states":  # one that has changed since is the record
        small = [path for path in small if not compacted.differs(path)]
    results.folder.delete(small)  # all at once: a query that has listed them fails and asks again
    return small


class _State:
    """Compares a state's own file with its compacted row; each compacted file is read once."""

    def __init__(self, results: Results, newest: dict[str, str]) -> None:
        self._results = results
        self._newest = newest
        self._rows: dict[str, dict[str, pa.Table]] = {}

    def differs(self, path: str) -> bool:
        state_id = state_of(path.rpartition("/")[2])
        many = self._newest[state_id]
        if many not in self._rows:
            rows = self._results.read_file(TABLES["states"], many)
            ids = rows["state_id"].to_pylist()
            self._rows[many] = {name: rows.slice(i, 1) for i, name in enumerate(ids)}
        try:
            own = self._results.read_file(TABLES["states"], path)
        except ResultsError:
            return True  # left for a person to see
        return not same_rows(own, self._rows[many][state_id])


def in_force_from(name: str) -> int:
    """Milliseconds since 1970 from which a compacted file counts, told from its name."""
    return int(name.rpartition("/")[2].split("-")[1])


@contextlib.contextmanager
def _lock(folder: Folder) -> Iterator[bool]:
    """Whether this process may compact; the lock falls with the process that holds it."""
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
