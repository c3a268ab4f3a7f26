"""Damaged files are named, and a full disk loses nothing that is recorded."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recorded_rows import OTHER, PROBE, SCORER, STATE, done, files, scored

from elastic_ray.results.compaction import compact
from elastic_ray.results.errors import ResultsError
from elastic_ray.results.store import Results


def test_temporary_files_are_ignored_and_removed_when_old(results: Results) -> None:
    scored(results, STATE, [0.5])
    folder = files(results, "one-a*.parquet")[0].parent
    old, fresh = folder / ".tmp-1-old", folder / ".tmp-2-fresh"
    for path in (old, fresh):
        path.write_bytes(b"half a file")
    os.utime(old, (time.time() - 7200,) * 2)
    assert results.recorded("scores") == {(STATE, PROBE, SCORER)}
    assert results.query("FROM scores").num_rows == 1
    Results(results.uri)
    assert not old.exists()
    assert fresh.exists()


@pytest.mark.parametrize("damage", ["truncated", "foreign", "text", "nothing"])
def test_a_damaged_file_is_named_and_nothing_else_lost(results: Results, damage: str) -> None:
    for state_id in (STATE, OTHER):
        done(results, state_id)
        scored(results, state_id, [0.5])
    [broken] = files(results, f"states/one-{STATE}.parquet")
    if damage == "truncated":
        broken.write_bytes(broken.read_bytes()[:-40])
    elif damage == "foreign":
        pq.write_table(pa.table({"x": [1]}), broken)
    else:
        broken.write_bytes(b"hello" * 10 if damage == "text" else b"")
    for ask in (
        lambda: results.state(STATE),
        results.states,
        lambda: results.query("FROM states"),
        lambda: done(results, STATE),
    ):
        with pytest.raises(ResultsError) as caught:
            ask()
        assert str(broken) in str(caught.value)
        assert "delete it and run its sweep again" in str(caught.value)
    assert results.state(OTHER)["status"] == "done"
    assert results.query("FROM scores").num_rows == 2
    assert len(compact(results, at_least=1).unreadable) == 1
    broken.unlink()
    done(results, STATE)
    assert results.states().keys() == {STATE, OTHER}


def test_a_damaged_compacted_file_is_named(results: Results) -> None:
    scored(results, STATE, [0.5])
    [name] = compact(results, at_least=1, delay=0).written
    Path(results.location(name)).write_bytes(b"PAR1")
    fresh = Results(results.uri)
    for ask in (lambda: fresh.recorded("scores"), lambda: fresh.query("FROM scores")):
        with pytest.raises(ResultsError, match=name):
            ask()


def test_a_wrong_query_is_not_reported_as_a_damaged_file(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt_index": 0, "sample": 0, "response": "fine"}]
    results.write("responses", rows, state_id=STATE, probe_id=PROBE)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("retried, as for a missing file"))
    for sql, message in [
        ("SELECT response::INT FROM responses", "Could not convert"),
        (f"FROM read_parquet('{results.uri}/none.parquet')", "No files found"),
    ]:
        with pytest.raises(ResultsError, match=message):
            results.query(sql)
    with results.connect() as connection:
        assert results.query("FROM responses", connection=connection).num_rows == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small tmpfs")
def test_a_full_disk_loses_nothing_recorded(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        results = Results(tmp_path / "results")
        scored(results, STATE, [0.5])
        before = files(results)
        noise = [
            {"prompt_index": i, "sample": 0, "response": os.urandom(2000).hex()} for i in range(999)
        ]
        with pytest.raises(ResultsError, match=r"No space left.*recorded before is intact"):
            results.write("responses", noise, state_id=STATE, probe_id=PROBE)
        assert files(results) == before
        assert files(results, ".tmp*") == []
        assert not results.has("responses", state_id=STATE, probe_id=PROBE)
        assert results.query("SELECT score FROM scores").to_pylist() == [{"score": 0.5}]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
