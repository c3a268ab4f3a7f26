"""The same sweep on a disk and on an object store that refuses one request in ten: equal rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from elastic_ray.results import TABLES, Results
from elastic_ray.spec_file import load_spec

pytest.importorskip("ray", reason="the training extra is not installed")
pytest.importorskip("moto", reason="the extra dev is not installed")
from object_store import KEYS, Store, object_store
from sweep_process import sweep

REFUSED = 0.1

APART = {
    "states": ["seconds", "started_at", "finished_at", "trial"],
}
"""What no two runs have in common: moments, how long it took, and the names of Tune's trials."""

ROUNDED = {"scores": ("probability", 1e-5), "code_lengths": ("bits", 1e-3)}
"""Sums that depend, in their last digits, on which texts share a batch: (column, tolerance)."""


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with object_store(seed=10) as store:
        yield store


@pytest.fixture(scope="module")
def remote(little_spec: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results on the store, which goes on refusing while they are read."""
    node = tmp_path_factory.mktemp("node")
    store.refuse = REFUSED
    uri = store.uri("results")
    environment = {**KEYS, "ELASTIC_RAY_COPIES": str(node / "copies")}
    out = sweep(little_spec, uri, environment=environment, cwd=node, limit=1200)
    assert out.returncode == 0, out.stdout + out.stderr
    return Results(uri, read_only=True)


def rows_of(results: Results, table: str) -> list[dict[str, Any]]:
    """The rows of the sweep, without what is its own in each run; others may share the results."""
    key = ", ".join(TABLES[table].key)
    apart = f"EXCLUDE ({', '.join(APART[table])})" if table in APART else ""
    whose = "sweep = 'little'"
    if "sweep" not in TABLES[table].schema.names:
        whose = f"state_id IN (SELECT state_id FROM states WHERE {whose})"
    view = "elasticity" if table == "indices" else table
    asked = f"SELECT * {apart} FROM {view} WHERE {whose} ORDER BY {key}"
    rows: list[dict[str, Any]] = results.query(asked).to_pylist()
    return rows


@pytest.mark.parametrize("table", [table for table in TABLES if table != "sweeps"])
def test_rows_are_those_of_a_disk(
    undisturbed: tuple[Path, str], remote: Results, table: str
) -> None:
    disk, there = rows_of(Results(undisturbed[0], read_only=True), table), rows_of(remote, table)
    assert disk
    if table in ROUNDED:
        column, tolerance = ROUNDED[table]
        one, other = ([row.pop(column) for row in rows] for rows in (disk, there))
        assert one == pytest.approx(other, abs=tolerance)
    assert there == disk


def test_what_was_asked_is_there(little_spec: Path, remote: Results) -> None:
    """Not compared with the disk's: other tests ask for more there, under the same name."""
    (row,) = remote.query("SELECT spec FROM sweeps").to_pylist()
    assert json.loads(row["spec"]) == load_spec(little_spec).model_dump(mode="json")


def test_requests_were_refused(remote: Results, store: Store) -> None:
    """More than one process could have lost to a limit on how often it asks again."""
    assert store.refused > 200
    assert store.refused / (store.refused + store.asked.total()) == pytest.approx(0.1, abs=0.03)


def test_a_node_fetches_no_weights_that_it_made(remote: Results, store: Store) -> None:
    """The trainers', the engines' and the scorer's processes share this node's copies."""
    weights = [request for request in store.asked if request.endswith(".safetensors")]
    assert any(request.startswith("PUT") for request in weights)
    folders = ("GET /bucket/results/checkpoints", "GET /bucket/results/scorers")
    assert [request for request in weights if request.startswith(folders)] == []
