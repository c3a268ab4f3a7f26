"""Rows of `states`: they have exactly the declared columns, and are read back as written."""

from __future__ import annotations

import datetime as dt

import pytest
from recorded_rows import STATE

from elastic_ray.results.schemas import TABLES
from elastic_ray.results.state_rows import (
    SUMMARY_COLUMNS,
    PlannedState,
    Provenance,
    SavedCheckpoint,
    Training,
    done_row,
    failed_row,
)
from elastic_ray.results.store import Results

COLUMNS = set(TABLES["states"].schema.names)
PLANNED = PlannedState(STATE, None, "start", examples=0, lineage={"stages": []}, sweep="tiny")
TRAINING = Training(
    parameters=90_000,
    tokens=400,
    pretrain_tokens=0,
    seconds=2.0,
    started_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    finished_at=dt.datetime(2026, 1, 3, tzinfo=dt.UTC),
    losses=[2.0, 1.5],
)


def test_a_done_row_has_every_column_but_the_error(results: Results) -> None:
    saved = SavedCheckpoint("checkpoints/a", 10, "sum")
    row = done_row(PLANNED, saved, TRAINING, Provenance(versions={"torch": "2"}, trial="t"))
    assert set(row) == COLUMNS - {"error"}
    results.write("states", [row])
    found = results.state(STATE)
    assert found is not None
    assert (found["status"], found["final_loss"], found["trial"]) == ("done", 1.5, "t")
    assert (found["lineage"], found["versions"]) == ('{"stages": []}', '{"torch": "2"}')


@pytest.mark.parametrize("provenance", [None, Provenance(git_revision="abc")])
def test_a_failed_row_holds_the_error(results: Results, provenance: Provenance | None) -> None:
    row = failed_row(PLANNED, "diverged", provenance)
    assert set(row) <= COLUMNS
    results.write("states", [row])
    found = results.state(STATE)
    assert found is not None
    assert (found["status"], found["error"], found["checkpoint"]) == ("failed", "diverged", None)
    assert found["git_revision"] == (None if provenance is None else "abc")


def test_a_start_state_has_no_losses() -> None:
    start = Training(90_000, 0, 0, 1.0, TRAINING.started_at, TRAINING.finished_at)
    row = done_row(PLANNED, SavedCheckpoint("gpt2", 10, "sum"), start, Provenance())
    assert row["losses"] is None and row["final_loss"] is None


def test_the_summary_columns_exist() -> None:
    assert set(SUMMARY_COLUMNS) <= COLUMNS
