"""Writing and reading rows: what is written is read back, and a record stays."""

from __future__ import annotations

import datetime as dt
import math
import os

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded_rows import OTHER, PROBE, SCORER, STATE, cell, done, scored

from elastic_ray.results.errors import AlreadyRecorded, ResultsError
from elastic_ray.results.schemas import TABLES
from elastic_ray.results.store import Results


def test_written_rows_are_read_back(results: Results) -> None:
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
def test_any_rows_and_any_scorer_name_are_kept(results: Results, scorer: str, rows: list) -> None:
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
def test_any_text_is_kept(results: Results, prompt: str, response: str, seed: int) -> None:
    state_id = os.urandom(10).hex()
    row = {"prompt_index": 0, "sample": 0, "prompt": prompt, "response": response, "seed": seed}
    results.write("responses", [row], state_id=state_id, probe_id=PROBE)
    [found] = results.query("FROM responses WHERE state_id = $s", {"s": state_id}).to_pylist()
    assert {name: found[name] for name in row} == row


def test_views_have_the_declared_types_with_and_without_rows(results: Results) -> None:
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
    scored(results, STATE, [0.5], probe_id="1" * 20, scorer="7")  # must not be read as numbers
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


def test_a_done_record_cannot_be_overwritten(results: Results) -> None:
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


def test_deleting_a_checkpoint_keeps_the_rest_of_the_record(results: Results) -> None:
    done(results, STATE, checkpoint=results.checkpoint_name(STATE), checkpoint_bytes=10)
    results.delete_checkpoint(STATE)
    assert results.state(STATE)["checkpoint"] is None
    assert results.state(STATE)["checkpoint_bytes"] == 10
    with pytest.raises(ResultsError, match="no state"):
        results.delete_checkpoint(OTHER)


def test_replace_writes_all_cells_anew(results: Results) -> None:
    assert results.cells("tiny") == []
    results.replace("cells", "tiny", [cell(STATE, 0, 0), cell(OTHER, 200, 0)])
    results.replace("cells", "tiny", [cell(STATE, 0, 0, status="done")])
    assert [row["status"] for row in results.cells("tiny")] == ["done"]
    assert results.recorded("cells") == {("tiny",)}
