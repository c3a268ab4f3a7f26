"""elastic.duckdb: readable by any client, updated when out of date, left alone while open."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from recorded_rows import STATE, scored

from elastic_ray.results.store import Results


def test_elastic_duckdb_works_for_any_client_anywhere(sweep: Results, tmp_path: Path) -> None:
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True);"
        "print(c.execute('SELECT count(*) FROM curves').fetchall()[0][0])"
    )
    path = sweep.location("elastic.duckdb")
    client = [sys.executable, "-c", code, path]
    asked = subprocess.run(client, cwd=tmp_path, capture_output=True, text=True)
    assert (asked.stdout, asked.stderr) == ("6\n", "")
    assert os.path.getsize(path) < 2_000_000
    before = os.stat(path).st_ino
    assert Results(sweep.uri).notice is None
    assert os.stat(path).st_ino == before  # up to date, so not rewritten
    with duckdb.connect() as other:
        other.execute(f"ATTACH '{path}' AS elastic (READ_ONLY)")
        assert other.execute("SELECT count(*) FROM elastic.surfaces").fetchall() == [(6,)]


def test_a_copied_elastic_duckdb_reads_the_folder_in_which_it_lies(
    sweep: Results, tmp_path: Path
) -> None:
    first, copy = tmp_path / "first", tmp_path / "a [copy]*"
    shutil.copytree(sweep.uri, first)
    Results(first)
    shutil.copytree(first, copy)
    shutil.rmtree(copy / "cells" / "sweep=tiny", ignore_errors=True)
    for name in copy.glob("cells/sweep=*[!y]"):  # all but the empty one
        shutil.rmtree(name)

    def cells(folder: Path) -> int:
        with duckdb.connect(str(folder / "elastic.duckdb"), read_only=True) as client:
            found: tuple[int] = client.execute("SELECT count(*) FROM cells").fetchall()[0]
            return found[0]

    assert cells(first) > 0 and cells(copy) == 0
    with duckdb.connect() as other:
        other.execute(f"ATTACH '{copy}/elastic.duckdb' AS copied (READ_ONLY)")
        with pytest.raises(duckdb.Error, match="copied or moved here"):
            other.execute("FROM copied.cells").fetchall()
        other.execute(f"ATTACH '{first}/elastic.duckdb' AS first (READ_ONLY)")
        assert other.execute("FROM first.cells").fetchall()
    with duckdb.connect(str(copy / "elastic.duckdb"), read_only=True) as opened:
        opened.execute(f"ATTACH '{first}/elastic.duckdb' AS first (READ_ONLY)")
        with pytest.raises(duckdb.Error, match="several elastic"):
            opened.execute("FROM first.cells").fetchall()
    first.rename(tmp_path / "gone")
    assert cells(copy) == 0 and cells(tmp_path / "gone") > 0


def test_times_are_utc_whatever_the_machines_zone(
    sweep: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys; from elastic_ray.results.store import Results;"
        "print(Results(sys.argv[1], read_only=True)"
        ".query(\"SELECT TIMESTAMPTZ '2026-01-02 03:04:05+00' AS t\").to_pylist()[0]['t'])"
    )
    for zone in ("UTC", "Asia/Kolkata"):
        monkeypatch.setenv("TZ", zone)
        asked = [sys.executable, "-c", code, sweep.uri]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "2026-01-02 03:04:05+00:00"


def test_elastic_duckdb_open_in_another_program_is_left_with_a_notice(results: Results) -> None:
    path = results.location("elastic.duckdb")
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True);"
        "sys.stdin.read()"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert client.stdout is not None
        client.stdout.readline()
        again = Results(results.uri)
        assert again.notice is not None
        assert "open in another program" in again.notice
        scored(again, STATE, [0.5])
        assert again.query("FROM scores").num_rows == 1
    finally:
        client.communicate(b"")
    assert Results(results.uri).notice is None
    with duckdb.connect(path) as mine:
        mine.execute("FROM scores").fetchall()
        assert "open in another program" in (Results(results.uri).notice or "")


def test_elastic_duckdb_is_rebuilt_if_moved_or_damaged(results: Results, tmp_path: Path) -> None:
    scored(results, STATE, [0.5])
    moved = tmp_path / "moved"
    Path(results.uri).rename(moved)
    Results(moved)
    with duckdb.connect(str(moved / "elastic.duckdb"), read_only=True) as client:
        assert len(client.execute("FROM scores").fetchall()) == 1
    (moved / "elastic.duckdb").write_bytes(b"not a database" * 100)
    assert Results(moved).notice is None
    with duckdb.connect(str(moved / "elastic.duckdb"), read_only=True) as client:
        assert len(client.execute("FROM scores").fetchall()) == 1
