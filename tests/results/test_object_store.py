"""Results on an object store: a real S3 server on loopback that can refuse requests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_ray.results.compaction import compact
from elastic_ray.results.errors import ResultsError
from elastic_ray.results.leases.sweep_lease import (
    SweepLeaseHeld,
    acquire_sweep_lease,
    current_lease,
)
from elastic_ray.results.storage.folder import local_folder_at
from elastic_ray.results.storage.node_cache import CACHE_VARIABLE, NodeCache
from elastic_ray.results.store import Results

pytest.importorskip("moto", reason="the extra dev is not installed")
from object_store import BUCKET, Store, object_store

STATES = [f"s{i}" for i in range(5)]


@pytest.fixture(scope="module")
def running() -> Iterator[Store]:
    with object_store(seed=6) as store:
        yield store


@pytest.fixture
def store(running: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store, empty and refusing nothing; the node cache is in a folder of this test."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "copies"))
    running.empty()
    return running


def scored(results: Results, states: list[str] = STATES) -> None:
    for i, state in enumerate(states):
        results.write(
            "scores",
            [{"prompt_index": 0, "sample": 0, "score": float(i)}],
            **{"state_id": state, "probe_id": "p", "scorer": "s"},
        )


def scores(results: Results) -> dict[str, float]:
    rows = results.query("SELECT state_id, score FROM scores").to_pylist()
    assert len(rows) == len({row["state_id"] for row in rows})
    return {row["state_id"]: row["score"] for row in rows}


ALL = {state: float(i) for i, state in enumerate(STATES)}


def test_refused_requests_are_retried_however_long_a_store_is_used(store: Store) -> None:
    """The SDK's "standard" strategy retries only a hundred times in a filesystem's life."""
    results = Results(store.uri("results"))
    scored(results)
    store.refuse = 0.3
    while store.refused < 150:
        assert results.recorded("scores") == {(state, "p", "s") for state in STATES}
    assert scores(results) == ALL


def test_a_folder_that_cannot_be_listed_is_an_error(store: Store) -> None:
    results = Results(store.uri("results"))
    scored(results)
    store.deny = "prefix=results/scores/"
    with pytest.raises(ResultsError, match="ACCESS_DENIED"):
        results.query("SELECT count(*) FROM scores")


def test_compaction_on_a_store_that_refuses_requests(store: Store) -> None:
    store.refuse = 0.1
    results = Results(store.uri("results"))
    scored(results)
    assert compact(results, alone=True, at_least=2, delay=0).rows == len(STATES)
    assert scores(results) == ALL
    assert len(compact(results, alone=True, at_least=2, delay=0, grace=0).deleted) == len(STATES)
    assert scores(results) == ALL
    assert results.has("scores", state_id="s3", probe_id="p", scorer="s")


def test_an_open_connection_reads_a_replaced_row_in_its_new_form(store: Store) -> None:
    results = Results(store.uri("results"))
    row = {"state_id": "s", "kind": "start", "examples": 0, "status": "done", "checkpoint": "x"}
    results.write("states", [row])
    with results.connect() as connection:

        def checkpoint() -> list[str]:
            asked = results.query("SELECT checkpoint FROM states", connection=connection)
            return asked["checkpoint"].to_pylist()

        assert checkpoint() == ["x"]
        for name in ("y", "a longer name", "z"):
            results.restore_checkpoint("s", name, "checksum")
            assert checkpoint() == [name]


def test_a_sweep_lease_on_a_store_that_refuses_requests(store: Store) -> None:
    store.refuse = 0.1
    folder = Results(store.uri("results")).folder
    with acquire_sweep_lease(folder, "little", lambda: "", lambda reason: None) as lease:
        held = current_lease(folder, "little")
        assert held is not None and held.token == lease.token
        with (
            pytest.raises(SweepLeaseHeld, match="already runs on these results"),
            acquire_sweep_lease(folder, "little", lambda: "", lambda reason: None),
        ):
            pass
    assert current_lease(folder, "little") is None


def test_a_missing_bucket_is_one_error(store: Store) -> None:
    with pytest.raises(ResultsError, match="nowhere/results"):
        Results(store.uri("results").replace(BUCKET, "nowhere"))


def test_a_query_can_read_nothing_else_in_the_bucket(store: Store) -> None:
    results = Results(store.uri("results"))
    results.folder.filesystem.copy_file(f"{results.folder.root}/elastic.duckdb", f"{BUCKET}/other")
    for place in (f"s3://{BUCKET}/other", f"s3://{BUCKET}/results/../other", "/etc/passwd"):
        with pytest.raises(ResultsError, match="disabled by configuration"):
            results.query(f"FROM read_blob('{place}')")


# The node cache of checkpoints


def checkpoint(results: Results, state: str, content: bytes) -> str:
    """Upload a checkpoint as a trainer does, and return its location."""
    scratch = results.folder.scratch()
    (scratch / "model.safetensors").write_bytes(content)
    (scratch / "config.json").write_text("{}")
    results.folder.put_folder(scratch, f"checkpoints/{state}")
    return results.location(f"checkpoints/{state}")


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, node: str) -> Path:
    """Move this process to another node, whose cache is empty; return the cache folder."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / node))
    return tmp_path / node


def downloads(store: Store) -> int:
    return store.served[f"GET /{BUCKET}/results/checkpoints/one/model.safetensors"]


FETCH = """
import sys
from elastic_ray.results.storage.folder import local_folder_at
from pathlib import Path
sys.stdin.readline()
with local_folder_at(sys.argv[1]) as folder:
    print(Path(folder, "model.safetensors").stat().st_size)
"""


def test_two_processes_at_once_download_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = checkpoint(Results(store.uri("results")), "one", bytes(300_000))
    elsewhere(monkeypatch, tmp_path, "node")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH, place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert said == ["300000\n"] * 2
    assert downloads(store) == 1


def test_an_uploaded_checkpoint_is_not_downloaded_on_the_same_node(store: Store) -> None:
    place = checkpoint(Results(store.uri("results")), "one", b"weights")
    with local_folder_at(place) as folder:
        assert Path(folder, "model.safetensors").read_bytes() == b"weights"
        assert Path(folder, "config.json").read_text() == "{}"
    assert downloads(store) == 0


def test_a_rewritten_checkpoint_is_downloaded_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = Results(store.uri("results"))
    for content in (b"first", b"second"):
        elsewhere(monkeypatch, tmp_path, "trainer's")
        place = checkpoint(results, "one", content)
        elsewhere(monkeypatch, tmp_path, "engine's")
        for _ in range(2):
            with local_folder_at(place) as folder:
                assert Path(folder, "model.safetensors").read_bytes() == content
    assert downloads(store) == 2


def test_least_recently_used_copies_are_removed_first_and_never_those_in_use(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = Results(store.uri("results"))
    for state in ("a", "b", "c", "d"):
        checkpoint(results, state, state.encode() * 1000)
    node = elsewhere(monkeypatch, tmp_path, "node")
    roomy, narrow = (NodeCache(results.folder.filesystem, share) for share in (0.5, 1e-12))

    def held() -> set[str]:
        files = node.glob("copy-*/model.safetensors")
        return {file.read_text()[0] for file in files}

    def at(state: str) -> str:
        return results.folder.path(f"checkpoints/{state}")

    with roomy.copy_of(at("a")) as used:
        for state in ("b", "c"):
            with roomy.copy_of(at(state)):
                pass
        assert held() == {"a", "b", "c"}, "while there is room, all stay"
        with narrow.copy_of(at("d")):
            assert held() == {"a", "d"}
            assert (used / "model.safetensors").read_text() == "a" * 1000


def test_leftovers_of_a_killed_process_are_removed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = Results(store.uri("results"))
    place = checkpoint(results, "one", b"weights")
    node = elsewhere(monkeypatch, tmp_path, "node")
    dying = "from elastic_ray.results.store import Results; import os, sys; "
    dying += "(Results(sys.argv[1]).folder.scratch() / 'half').write_bytes(b'x'); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", dying, results.uri]).returncode == 9
    mine = results.folder.scratch()
    assert len(list(node.glob(".tmp-*"))) == 2
    with local_folder_at(place):
        assert list(node.glob(".tmp-*")) == [mine], "one that is being filled stays"
    results.folder.discard(mine)


def test_a_missing_checkpoint_is_named(store: Store) -> None:
    results = Results(store.uri("results"))
    with (
        pytest.raises(ResultsError, match="checkpoints/two is missing or empty"),
        local_folder_at(results.location("checkpoints/two")),
    ):
        pass
