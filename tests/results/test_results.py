"""The results room, as its specification: real Parquet, real DuckDB, a real full disk."""

from __future__ import annotations

import datetime as dt
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elastic_ray.results.compaction import compact
from elastic_ray.results.errors import AlreadyRecorded, ResultsError
from elastic_ray.results.schemas import TABLES
from elastic_ray.results.statements import check_reads_only
from elastic_ray.results.store import Results

STATE, OTHER = "a" * 20, "b" * 20
PROBE = "c" * 20
SCORER = "sentiment"


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


def scored(results: Results, state_id: str, values: list[float], **key: str) -> None:
    rows = [{"prompt_index": i, "sample": 0, "score": v} for i, v in enumerate(values)]
    key = {"probe_id": PROBE, "scorer": SCORER, **key}
    results.write("scores", rows, state_id=state_id, **key)


def done(results: Results, state_id: str, **more: object) -> None:
    results.write("states", [{"state_id": state_id, "kind": "pretrain", "status": "done", **more}])


def cell(state_id: str, positive: int, negative: int, seed: int = 0, **more: object) -> dict:
    point = {"model": "m", "task": "reviews", "pretrain": 5000, "seed": seed}
    at = {"positive": positive, "negative": negative, "state_id": state_id}
    return {**point, **at, "probe_id": PROBE, "scorer": SCORER, "status": "pending", **more}


def files(results: Results, pattern: str = "*.parquet") -> list[Path]:
    return sorted(Path(results.uri).rglob(pattern))


# Writing and reading


def test_what_is_written_is_read_back(results: Results) -> None:
    started = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    done(results, STATE, losses=[2.5, 1.25], started_at=started, lineage={"start": "init"})
    row = results.state(STATE)
    assert row is not None
    assert row["losses"] == [2.5, 1.25]
    assert row["started_at"] == started
    assert row["lineage"] == '{"start": "init"}'
    assert row["error"] is None
    assert results.states()[STATE]["status"] == "done"
    assert results.state(OTHER) is None


text = st.text(st.characters(codec="utf-8"), max_size=20)
folder_name = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12
)
real = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    scorer=folder_name,
    rows=st.lists(
        st.fixed_dictionaries(
            {"prompt_index": st.integers(0, 2**31 - 1), "sample": st.integers(0, 9), "score": real},
            optional={"probability": st.none() | real},
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda row: (row["prompt_index"], row["sample"]),
    ),
)
def test_any_rows_and_any_scorer_name_survive(results: Results, scorer: str, rows: list) -> None:
    state_id = os.urandom(10).hex()
    key = {"state_id": state_id, "probe_id": PROBE, "scorer": scorer}
    results.write("scores", rows, **key)
    expected = sorted(
        ({**key, "probability": None, "scorer_accuracy": None, **row} for row in rows),
        key=lambda row: (row["prompt_index"], row["sample"]),
    )
    assert results.read("scores", **key).to_pylist() == expected
    assert (state_id, PROBE, scorer) in results.recorded("scores")
    sql = "FROM scores WHERE state_id = $s AND scorer = $c ORDER BY prompt_index, sample"
    assert results.query(sql, {"s": state_id, "c": scorer}).to_pylist() == expected


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(prompt=text, response=text, seed=st.integers(-(2**63), 2**63 - 1))
def test_any_text_survives(results: Results, prompt: str, response: str, seed: int) -> None:
    state_id = os.urandom(10).hex()
    row = {"prompt_index": 0, "sample": 0, "prompt": prompt, "response": response, "seed": seed}
    results.write("responses", [row], state_id=state_id, probe_id=PROBE)
    [found] = results.query("FROM responses WHERE state_id = $s", {"s": state_id}).to_pylist()
    assert {name: found[name] for name in row} == row


def test_every_table_has_its_types_before_and_after_rows(results: Results) -> None:
    def types() -> dict[str, pa.Schema]:
        views = {name: "elasticity" if name == "indices" else name for name in TABLES}
        found = {name: results.query(f"FROM {view}").schema for name, view in views.items()}
        return {n: {field.name: field.type for field in schema} for n, schema in found.items()}

    before = types()
    declared = {n: {f.name: f.type for f in table.schema} for n, table in TABLES.items()}
    for name, columns in declared.items():
        assert before[name].keys() == columns.keys()
        for column, kind in columns.items():
            if pa.types.is_timestamp(kind):
                assert before[name][column].tz is not None
            elif not pa.types.is_list(kind):
                assert before[name][column] == kind
    done(results, STATE)
    scored(results, STATE, [0.5], probe_id="1" * 20, scorer="7")  # not to be read as numbers
    results.replace("cells", "2026", [cell(STATE, 0, 0)])
    assert types() == before
    assert results.query("SELECT probe_id, scorer FROM scores").to_pylist() == [
        {"probe_id": "1" * 20, "scorer": "7"}
    ]


def test_pyarrow_reads_the_same_files(results: Results) -> None:
    scored(results, STATE, [0.5, 0.25])
    schema = TABLES["scores"].schema
    table = ds.dataset(f"{results.uri}/scores", schema=schema, partitioning="hive").to_table()
    assert table.num_rows == 2
    assert set(table["scorer"].to_pylist()) == {SCORER}


def test_a_done_record_stands(results: Results) -> None:
    done(results, STATE, seconds=1.0)
    done(results, STATE, seconds=1.0)
    with pytest.raises(AlreadyRecorded, match="recorded already"):
        done(results, STATE, seconds=2.0)
    scored(results, STATE, [0.5])
    scored(results, STATE, [0.5])
    with pytest.raises(AlreadyRecorded):
        scored(results, STATE, [0.6])
    assert results.state(STATE)["seconds"] == 1.0


def test_a_failed_state_may_be_tried_again(results: Results) -> None:
    results.write(
        "states", [{"state_id": STATE, "kind": "negative", "status": "failed", "error": "NaN"}]
    )
    assert results.states()[STATE]["error"] == "NaN"
    done(results, STATE, final_loss=math.nan)
    done(results, STATE, final_loss=math.nan)
    assert results.states()[STATE]["status"] == "done"


def test_forgetting_a_checkpoint_keeps_the_rest(results: Results) -> None:
    done(results, STATE, checkpoint=results.checkpoint_name(STATE), checkpoint_bytes=10)
    results.delete_checkpoint(STATE)
    assert results.state(STATE)["checkpoint"] is None
    assert results.state(STATE)["checkpoint_bytes"] == 10
    with pytest.raises(ResultsError, match="no state"):
        results.delete_checkpoint(OTHER)


def test_cells_are_replaced_whole(results: Results) -> None:
    assert results.cells("tiny") == []
    results.replace("cells", "tiny", [cell(STATE, 0, 0), cell(OTHER, 200, 0)])
    results.replace("cells", "tiny", [cell(STATE, 0, 0, status="done")])
    assert [row["status"] for row in results.cells("tiny")] == ["done"]
    assert results.recorded("cells") == {("tiny",)}


BAD = [
    ("scores", {"prompt_index": 0, "sample": 0, "scor": 1.0}, "did you mean 'score'"),
    ("scores", {"prompt_index": 0, "sample": 0}, "scores.score: row 0 has no value"),
    ("scores", {"prompt_index": 0, "sample": 0, "score": math.nan}, "scores.score: row 0 is nan"),
    ("scores", {"prompt_index": 0, "sample": 0, "score": "x"}, "row 0, 'x', is not double"),
    ("scores", {"prompt_index": 2**40, "sample": 0, "score": 1.0}, "scores.prompt_index"),
    ("scores", {"prompt_index": 0, "sample": 0, "score": 1.0, "scorer": "z"}, "a row says 'z'"),
]


@pytest.mark.parametrize(("table", "row", "message"), BAD)
def test_bad_rows_are_refused_by_name(
    results: Results, table: str, row: dict, message: str
) -> None:
    with pytest.raises(ResultsError, match=message):
        results.write(table, [row], state_id=STATE, probe_id=PROBE, scorer=SCORER)
    assert results.recorded(table) == set()


def test_bad_keys_are_refused(results: Results) -> None:
    row = {"prompt_index": 0, "sample": 0, "score": 1.0}
    key = {"state_id": STATE, "probe_id": PROBE, "scorer": SCORER}
    for change, message in [
        ({"state_id": "../x"}, "not an id"),
        ({"scorer": ""}, "cannot name a folder"),
        ({"scorer": "x" * 300}, "cannot name a folder"),
        ({"scorer": "_empty"}, "reserved"),
    ]:
        with pytest.raises(ResultsError, match=message):
            results.write("scores", [row], **{**key, **change})
    with pytest.raises(ResultsError, match="recorded by state_id, probe_id, scorer"):
        results.write("scores", [row], state_id=STATE)
    with pytest.raises(ResultsError, match="same key"):
        results.write("scores", [row, row], **key)
    with pytest.raises(ResultsError, match="did you mean 'scores'"):
        results.has("score")
    with pytest.raises(ResultsError, match="not one of done, failed"):
        results.write("states", [{"state_id": STATE, "kind": "start", "status": "pending"}])
    with pytest.raises(ResultsError, match="no time zone"):
        done(results, STATE, started_at=dt.datetime(2026, 1, 1))


def test_a_folder_with_strange_characters(tmp_path: Path) -> None:
    results = Results(tmp_path / "it's [a] *folder*? $x = 100%")
    scored(results, STATE, [0.5])
    assert results.query("FROM scores").num_rows == 1
    assert Results(results.uri, read_only=True).recorded("scores") == {(STATE, PROBE, SCORER)}


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no such results folder"):
        Results(tmp_path / "none", read_only=True)
    with pytest.raises(ResultsError, match="holds no results"):
        Results(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="cannot write"):
        Results(tmp_path / "file")


def test_a_filesystem_that_is_not_local() -> None:
    results = Results("memory://results-test/deep")
    scored(results, STATE, [0.5, 1.0])
    scored(results, OTHER, [0.0])
    done(results, STATE)
    results.replace("cells", "tiny", [cell(STATE, 0, 0)])
    assert results.recorded("scores") == {(STATE, PROBE, SCORER), (OTHER, PROBE, SCORER)}
    assert results.states().keys() == {STATE}
    assert results.query("SELECT score FROM curves").to_pylist() == [{"score": 0.75}]
    with pytest.raises(ResultsError, match="alone=True"):
        compact(results)
    assert compact(results, alone=True, at_least=1, delay=0).rows == 4
    assert len(compact(results, alone=True, grace=0, delay=0).deleted) == 3
    assert results.has("scores", state_id=OTHER, probe_id=PROBE, scorer=SCORER)
    assert results.query("SELECT score FROM curves").to_pylist() == [{"score": 0.75}]
    assert results.folder.exists("elastic.duckdb")


def test_an_unknown_filesystem_is_an_error() -> None:
    with pytest.raises(ResultsError, match="nosuch://x"):
        Results("nosuch://x/y")


# Damage


def test_leftover_temporary_files_are_ignored_and_swept_when_old(results: Results) -> None:
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


def test_a_query_that_is_wrong_is_not_taken_for_a_damaged_file(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt_index": 0, "sample": 0, "response": "fine"}]
    results.write("responses", rows, state_id=STATE, probe_id=PROBE)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("asked again, as for a damaged file"))
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


# Compaction


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
    same()  # not in force yet
    time.sleep(0.3)
    same()  # in force, beside the files it replaces
    assert compact(results, at_least=3).written == ()  # nothing twice
    second = compact(results, grace=0)
    assert len(second.deleted) == 20
    same()
    assert len(files(results, "one-*.parquet")) == 1 + len(
        [path for path in files(results, "one-_empty.parquet")]
    )  # the failed state stays, it may be tried again
    assert results.read("scores", state_id=f"{3:020x}", probe_id=PROBE, scorer="one").num_rows == 2
    assert results.state(f"{4:020x}")["losses"] == [4.0]
    with pytest.raises(AlreadyRecorded):
        scored(results, f"{3:020x}", [0.9], scorer="one")


def test_a_state_that_changes_after_compaction_is_read_as_it_is_now(results: Results) -> None:
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
    """A writer, a compactor and two readers at once: each state's rows are whole or absent, a state
    once seen stays, no row is seen twice, and no query fails."""
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


# Views


@pytest.fixture
def sweep(results: Results) -> Results:
    """A curve with two seeds that share its base, one failed point and one pending."""
    ids = {name: name.encode().hex().rjust(20, "0") for name in ("base", "p0", "p1", "n0", "bad")}
    for name, values in {
        "base": [0.1, 0.2, 0.3, 0.2],
        "p0": [0.8, 0.9, 0.8, 0.9],
        "p1": [0.7, 0.8, 0.7, 0.8],
        "n0": [0.5, 0.5, 0.4, 0.6],
    }.items():
        done(
            results, ids[name], sweep="tiny", parameters=90_000, examples=10, tokens=100, seconds=2
        )
        scored(results, ids[name], values)
    bad = {"state_id": ids["bad"], "kind": "negative", "status": "failed", "error": "diverged"}
    results.write("states", [{**bad, "sweep": "tiny"}])
    results.replace(
        "cells",
        "tiny",
        [
            cell(ids["base"], 0, 0, 0),
            cell(ids["base"], 0, 0, 1),
            cell(ids["p0"], 200, 0, 0),
            cell(ids["p1"], 200, 0, 1),
            cell(ids["n0"], 200, 8, 0),
            cell(ids["bad"], 200, 8, 1),
            cell(ids["bad"], 200, 24, 0),
            cell("f" * 20, 200, 48, 0, status="failed", error="its parent failed"),
            cell("e" * 20, 200, 96, 0),
        ],
    )
    return results


def test_cell_scores_tell_what_is_done_from_the_records(sweep: Results) -> None:
    rows = sweep.query("FROM cell_scores ORDER BY positive, negative, seed").to_pylist()
    assert [(r["status"], r["error"]) for r in rows] == [
        ("done", None),
        ("done", None),
        ("done", None),
        ("done", None),
        ("done", None),
        ("failed", "diverged"),
        ("failed", "diverged"),
        ("failed", "its parent failed"),
        ("pending", None),
    ]
    first = rows[2]
    assert first["score"] == pytest.approx(0.85)
    assert first["prompts"] == 4
    assert first["sd"] == pytest.approx(0.057735, abs=1e-6)
    assert first["standard_error"] == pytest.approx(0.0288675, abs=1e-6)
    assert first["parameters"] == 90_000
    assert [r["score"] for r in rows[5:]] == [None] * 4


def test_cells_that_are_not_to_be_scored_are_done_where_the_sweep_says_so(
    results: Results,
) -> None:
    ids = ["1" * 20, "2" * 20, "3" * 20]
    for state, status in zip(ids, ("done", "done", "failed"), strict=True):
        results.write("states", [{"state_id": state, "kind": "positive", "status": status}])
    results.replace(
        "cells",
        "s",
        [
            cell(ids[0], 100, 0, scorer="", status="done"),
            cell(ids[1], 200, 0, scorer="", status="pending"),
            cell(ids[2], 300, 0, scorer="", status="failed"),
            cell(ids[0], 400, 0, status="done"),  # to be scored, and has no score
        ],
    )
    rows = results.query("FROM cell_scores ORDER BY positive").to_pylist()
    assert [row["status"] for row in rows] == ["done", "pending", "failed", "pending"]
    assert {row["score"] for row in rows} == {None}
    (progress,) = results.query("FROM progress").to_pylist()
    assert [progress[name] for name in ("done", "failed", "pending")] == [1, 1, 2]


def test_curves_are_means_over_prompts_and_seeds(sweep: Results) -> None:
    rows = sweep.query("FROM curves ORDER BY positive, negative").to_pylist()
    assert [r["negative"] for r in rows] == [0, 0, 8, 24, 48, 96]
    base, aligned, early = rows[:3]
    [se] = sweep.query("SELECT standard_error FROM cell_scores WHERE positive = 0 AND seed = 0")[
        "standard_error"
    ].to_pylist()
    assert base["score"] == pytest.approx(0.2)
    assert base["standard_error"] == pytest.approx(se)  # the two seeds' state is one state
    assert aligned["score"] == pytest.approx(0.8)
    assert aligned["standard_error"] == pytest.approx(0.0288675 / math.sqrt(2), abs=1e-6)
    assert aligned["seed_sd"] == pytest.approx(0.1 / math.sqrt(2))
    assert (early["seeds"], early["failed"], early["error"]) == (1, 1, "diverged")
    assert early["score"] == pytest.approx(0.5)
    assert all(r["base"] == base["score"] for r in rows)
    assert all(r["aligned"] == aligned["score"] for r in rows[1:])
    assert sweep.query("FROM baselines").num_rows == 1


def test_surfaces_show_holes(sweep: Results) -> None:
    rows = sweep.query("FROM surfaces ORDER BY positive, negative").to_pylist()
    assert [r["status"] for r in rows] == ["done", "done", "done", "failed", "failed", "pending"]
    assert rows[0]["retention"] is None  # no gap between base and base
    assert rows[1]["retention"] == pytest.approx(1)
    assert rows[2]["retention"] == pytest.approx(0.5)
    assert [r["score"] for r in rows[3:]] == [None, None, None]
    assert [r["error"] for r in rows[3:]] == ["diverged", "its parent failed", None]


def test_progress_and_failures(sweep: Results) -> None:
    [row] = sweep.query("FROM progress").to_pylist()
    assert (row["cells"], row["done"], row["failed"], row["pending"]) == (9, 5, 3, 1)
    assert (row["states"], row["states_done"], row["states_failed"]) == (7, 4, 1)
    assert (row["examples_trained"], row["tokens_trained"]) == (40, 400)
    failed = sweep.query("SELECT what, error FROM failures ORDER BY ALL").to_pylist()
    assert [r["what"] for r in failed] == ["cell", "cell", "cell", "state"]


def test_a_model_without_pretraining_has_curves(results: Results) -> None:
    scored(results, STATE, [0.5, 0.6])
    results.replace("cells", "hub", [cell(STATE, 0, 0, pretrain=None)])
    [row] = results.query("FROM curves").to_pylist()
    assert row["base"] == pytest.approx(0.55)


def test_answers_join_responses_with_their_scores(sweep: Results) -> None:
    state_id = b"base".hex().rjust(20, "0")
    rows = [
        {"prompt_index": i, "sample": 0, "prompt": "The film", "response": str(i)} for i in range(4)
    ]
    sweep.write("responses", rows, state_id=state_id, probe_id=PROBE)
    sql = "SELECT response, score FROM answers WHERE seed = 0 ORDER BY prompt_index"
    found = sweep.query(sql).to_pylist()
    assert found[2] == {"response": "2", "score": 0.3}
    assert len(found) == 4


def test_score_rows_average_samples(results: Results) -> None:
    results.replace("cells", "tiny", [cell(STATE, 0, 0)])
    assert results.score_rows("tiny").num_rows == 0
    rows = [
        {"prompt_index": i, "sample": s, "score": float(i + s)} for i in range(3) for s in (0, 1)
    ]
    results.write("scores", rows, state_id=STATE, probe_id=PROBE, scorer=SCORER)
    table = results.score_rows("tiny")
    names = ["model", "task", "pretrain", "positive", "negative", "seed", "prompt_index", "score"]
    assert table.column_names == names
    assert table["score"].to_pylist() == [0.5, 1.5, 2.5]


def test_indices_are_the_elasticity_view(results: Results) -> None:
    row = {"model": "m", "task": "reviews", "pretrain": 1, "positive": 200, "half_life": 12.5}
    results.replace("indices", "tiny", [{**row, "note": "never crosses 0"}])
    [found] = results.query("FROM elasticity").to_pylist()
    assert (found["half_life"], found["half_life_low"]) == (12.5, None)


def test_curves_of_two_million_scores_have_all_of_them(results: Results) -> None:
    states, prompts = 4000, 500
    ids = [f"{i:020x}" for i in range(states)]
    n = states * prompts
    table = TABLES["scores"]
    columns = {
        "state_id": pa.array(ids).take(pa.array([i // prompts for i in range(n)])),
        "probe_id": pa.repeat(PROBE, n),
        "prompt_index": pa.array([i % prompts for i in range(n)], pa.int32()),
        "sample": pa.repeat(pa.scalar(0, pa.int32()), n),
        "scorer": pa.repeat(SCORER, n),
        "score": pa.array([(i * 7919 % 1000) / 1000 for i in range(n)]),
        "probability": pa.nulls(n, pa.float64()),
        "scorer_accuracy": pa.nulls(n, pa.float64()),
    }
    from elastic_ray.results.parquet_files import parquet_bytes

    name = f"scores/probe_id={PROBE}/scorer={SCORER}/many-1700000000000-000000000000.parquet"
    rows = pa.table(columns, schema=table.schema)
    results.folder.put(name, parquet_bytes(table, rows, replaces=ids))
    results.replace(
        "cells", "big", [cell(s, 100 * (i % 8), i // 8 % 100, i // 800) for i, s in enumerate(ids)]
    )
    curves = results.query("FROM curves")
    assert curves.num_rows == 800
    assert sum(curves["seeds"].to_pylist()) == states


# DuckDB for others


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
    assert os.stat(path).st_ino == before  # up to date: left alone
    with duckdb.connect() as other:
        other.execute(f"ATTACH '{path}' AS elastic (READ_ONLY)")
        assert other.execute("SELECT count(*) FROM elastic.surfaces").fetchall() == [(6,)]


def test_elastic_duckdb_that_is_open_elsewhere_is_left_and_said_so(results: Results) -> None:
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


def test_elastic_duckdb_is_made_anew_if_moved_or_broken(results: Results, tmp_path: Path) -> None:
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


HOSTILE = [
    "COPY scores TO '{root}/x.csv'",
    "WITH x AS (COPY (SELECT 1) TO '{root}/x.csv') FROM x",
    "WITH x AS (INSERT INTO t VALUES (1) RETURNING *) FROM x",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/x.csv'",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '{root}/x.csv') FROM x",
    "FROM json_execute_serialized_sql('{{}}')",
    "FROM query('SELECT 1')",
    "FROM QUERY('SELECT 1')",
    "SELECT * FROM (FROM \"query\"('SELECT 1'))",
    "ATTACH '{root}/x.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "PRAGMA database_list",
    "CREATE TABLE t (a INT)",
    "DROP VIEW scores",
    "DELETE FROM scores",
    "SELECT 1; SELECT 2",
    "CALL pragma_version()",
    "EXPORT DATABASE '{root}/x'",
    "CHECKPOINT",
    "PREPARE p AS SELECT 1",
    "",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_only_reading_is_allowed(results: Results, sql: str) -> None:
    before = files(results, "*")
    with pytest.raises(ResultsError):
        results.query(sql.format(root=results.uri))
    assert files(results, "*") == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "FROM read_csv('/etc/passwd')",
        "FROM '/etc/passwd'",
        "FROM glob('/etc/*')",
        "FROM read_text('{root}/../secret')",
        "FROM read_csv('http://127.0.0.1:1/x.csv')",
        "FROM results",  # a variable of this function
    ],
)
def test_nothing_else_can_be_reached(results: Results, sql: str) -> None:
    Path(results.uri, "../secret").write_text("secret")
    with pytest.raises(ResultsError, match=r"Permission Error|does not exist"):
        results.query(sql.format(root=results.uri))


@pytest.mark.parametrize(
    "sql",
    [
        "FROM scores",
        "-- a comment\nSELECT 1 -- another",
        "WITH a AS (SELECT 1) SELECT * FROM a UNION ALL SELECT 2",
        "DESCRIBE scores",
        "SHOW TABLES",
        "SUMMARIZE scores",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE FROM scores",
        "PIVOT (SELECT 1 AS a, 2 AS b) ON a IN (1, 2) USING sum(b)",
        "WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM t WHERE a < 3) FROM t",
        "SELECT 'COPY_QUERY_NODE' AS type, 'query' AS function_name;",
    ],
)
def test_every_way_of_reading_is_allowed(results: Results, sql: str) -> None:
    with results.connect() as connection:
        assert check_reads_only(connection, sql) == sql
        connection.execute(sql).fetchall()


def test_a_query_can_be_given_a_time_limit(results: Results) -> None:
    sql = "SELECT sum(a.i * b.i) FROM range(1000000) a(i), range(1000000) b(i)"
    with (
        results.connect({"max_execution_time": 200}) as connection,
        pytest.raises(duckdb.InterruptException, match="execution time"),
    ):
        connection.execute(sql).fetchall()
    with pytest.raises(ResultsError, match="refuses the settings"):
        results.connect({"nonsense": 1})
