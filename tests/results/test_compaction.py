"""Compaction: every row is read exactly once, before, during and after it."""

from __future__ import annotations

import os
import threading
import time

import pytest
from recorded_rows import OTHER, PROBE, STATE, done, files, scored

from elastic_ray.results.compaction import compact
from elastic_ray.results.errors import AlreadyRecorded
from elastic_ray.results.store import Results


def test_compaction_changes_no_row(results: Results) -> None:
    for i in range(10):
        state_id = f"{i:020x}"
        done(results, state_id, losses=[float(i)])
        scored(results, state_id, [i / 10, 1.0], scorer="one" if i % 2 else "two")
    results.write("states", [{"state_id": STATE, "kind": "start", "status": "failed"}])
    asked = {name: f"FROM {name} ORDER BY ALL" for name in ("scores", "states", "state_scores")}
    rows = {name: results.query(sql) for name, sql in asked.items()}
    recorded = {name: results.recorded(name) for name in ("scores", "states")}

    def same() -> None:
        for reader in (results, Results(results.uri, read_only=True)):
            for name, sql in asked.items():
                assert reader.query(sql) == rows[name]
            assert {name: reader.recorded(name) for name in recorded} == recorded

    first = compact(results, at_least=3, delay=0.2)
    assert (len(first.written), first.rows, first.deleted) == (3, 30, ())
    same()  # not in effect yet
    time.sleep(0.3)
    same()  # in effect, beside the files it replaces
    assert compact(results, at_least=3).written == ()  # nothing is compacted twice
    second = compact(results, grace=0)
    assert len(second.deleted) == 20
    same()
    assert len(files(results, "one-*.parquet")) == 1 + len(
        [path for path in files(results, "one-_empty.parquet")]
    )  # the failed state's file stays, as it may be tried again
    assert results.read("scores", state_id=f"{3:020x}", probe_id=PROBE, scorer="one").num_rows == 2
    assert results.state(f"{4:020x}")["losses"] == [4.0]
    with pytest.raises(AlreadyRecorded):
        scored(results, f"{3:020x}", [0.9], scorer="one")


def test_a_state_changed_after_compaction_is_read_in_its_new_form(results: Results) -> None:
    done(results, STATE, checkpoint="checkpoints/a")
    done(results, OTHER, checkpoint="checkpoints/b")
    compact(results, at_least=1, delay=0)
    results.delete_checkpoint(STATE)
    for _ in range(3):
        assert results.state(STATE)["checkpoint"] is None
        assert results.states()[STATE]["checkpoint"] is None
        assert results.state(OTHER)["checkpoint"] == "checkpoints/b"
        assert results.query("FROM states").num_rows == 2
        time.sleep(0.002)
        compact(results, at_least=1, delay=0, grace=0)
    assert files(results, f"one-{STATE}.parquet") == []
    results.delete_checkpoint(OTHER)
    assert results.states()[OTHER]["checkpoint"] is None


def test_only_one_process_compacts(results: Results) -> None:
    import fcntl

    scored(results, STATE, [0.5])
    with open(results.location(".compaction.lock"), "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert compact(results, at_least=1).busy
    assert compact(results, at_least=1).rows == 1


def test_readers_see_every_row_once_while_files_are_compacted(results: Results) -> None:
    """One writer, one compactor and two readers run concurrently.

    Each state's rows are complete or absent, a state that was read once stays, no row is read
    twice, and no query fails.
    """
    stop = threading.Event()
    wrong: list[str] = []
    written: list[str] = []
    passes = 0

    def read(reader: Results) -> None:
        seen: set[str] = set()
        while not stop.is_set() and not wrong:
            known = set(written)
            sql = "SELECT state_id, count(*) AS n, sum(score) AS s FROM scores GROUP BY ALL"
            found = {r["state_id"]: (r["n"], r["s"]) for r in reader.query(sql).to_pylist()}
            wrong.extend(f"{s}: {n}" for s, n in found.items() if n != (4, 4.0))
            wrong.extend(f"lost {s}" for s in (known | seen) - found.keys())
            seen |= found.keys()
            states = reader.query("SELECT state_id FROM states")["state_id"].to_pylist()
            if len(states) != len(set(states)) or not known <= set(states):
                wrong.append(f"states: {len(states)} rows, {len(known)} known")

    def write() -> None:
        while not stop.is_set():
            state_id = os.urandom(10).hex()
            scored(results, state_id, [1.0] * 4)
            done(results, state_id)
            written.append(state_id)

    def guarded(work, *arguments) -> threading.Thread:
        def run() -> None:
            try:
                work(*arguments)
            except BaseException as e:
                wrong.append(repr(e))

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    readers = [Results(results.uri, read_only=True) for _ in range(2)]
    threads = [guarded(write), *(guarded(read, reader) for reader in readers)]
    deleted = 0
    try:
        end = time.monotonic() + 60
        while (passes < 10 or deleted < 40) and time.monotonic() < end and not wrong:
            pass_ = compact(results, at_least=5, delay=0.05, grace=1.0)
            passes += bool(pass_.written)
            deleted += len(pass_.deleted)
            time.sleep(0.02)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert passes >= 10
    assert deleted >= 40
    assert results.query("FROM scores").num_rows == 4 * len(written)
    assert results.recorded("states") == {(state_id,) for state_id in written}
