"""The views: cells, curves, surfaces, progress and failures, from recorded rows."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from recorded_rows import PROBE, SCORER, STATE, cell, scored

from elastic_ray.results.schemas import TABLES
from elastic_ray.results.store import Results


def test_cell_scores_have_the_status_of_the_records(sweep: Results) -> None:
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


def test_cells_without_a_scorer_have_the_status_that_the_sweep_wrote(
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
            cell(ids[0], 400, 0, status="done"),  # to be scored, but has no score
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
    assert base["standard_error"] == pytest.approx(se)  # both seeds have the same state
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


def test_the_elasticity_view_shows_the_indices_table(results: Results) -> None:
    row = {"model": "m", "task": "reviews", "pretrain": 1, "positive": 200, "half_life": 12.5}
    results.replace("indices", "tiny", [{**row, "note": "never crosses 0"}])
    [found] = results.query("FROM elasticity").to_pylist()
    assert (found["half_life"], found["half_life_low"]) == (12.5, None)


def test_curves_cover_two_million_scores(results: Results) -> None:
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
