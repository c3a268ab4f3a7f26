"""The same sweep on a disk and on an object store that refuses one request in ten: equal rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_ray.results.store import Results
from elastic_ray.spec import load_spec

pytest.importorskip("ray", reason="the training extra is not installed")
pytest.importorskip("moto", reason="the extra dev is not installed")
from object_store import KEYS, Store, object_store
from same_rows import COMPARED, compare
from sweep_process import sweep

pytestmark = pytest.mark.integration

REFUSED = 0.1


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with object_store(seed=10) as store:
        yield store


@pytest.fixture(scope="module")
def remote(little_spec: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results on the store, which refuses requests while they are read, too."""
    node = tmp_path_factory.mktemp("node")
    store.refuse = REFUSED
    uri = store.uri("results")
    environment = {**KEYS, "ELASTIC_RAY_COPIES": str(node / "copies")}
    out = sweep(little_spec, uri, environment=environment, cwd=node, limit=1200)
    assert out.returncode == 0, out.stdout + out.stderr
    return Results(uri, read_only=True)


@pytest.mark.parametrize("table", COMPARED)
def test_rows_are_those_of_a_disk(
    undisturbed: tuple[Path, str], remote: Results, table: str
) -> None:
    assert compare(Results(undisturbed[0], read_only=True), remote, "little", table)


def test_the_spec_is_recorded(little_spec: Path, remote: Results) -> None:
    """Not compared with the disk's, where other tests run more under the same name."""
    (row,) = remote.query("SELECT spec FROM sweeps").to_pylist()
    assert json.loads(row["spec"]) == load_spec(little_spec).model_dump(mode="json")


def test_requests_were_refused(remote: Results, store: Store) -> None:
    """More than any process may have lost without reaching its limit of retries."""
    assert store.refused > 200
    assert store.refused / (store.refused + store.served.total()) == pytest.approx(0.1, abs=0.03)


def test_a_node_fetches_no_weights_that_it_made(remote: Results, store: Store) -> None:
    """The trainers', the engines' and the scorer's processes share this node's copies."""
    weights = [request for request in store.served if request.endswith(".safetensors")]
    assert any(request.startswith("PUT") for request in weights)
    folders = ("GET /bucket/results/checkpoints", "GET /bucket/results/scorers")
    assert [request for request in weights if request.startswith(folders)] == []
