"""Results on an object store: a real S3 protocol server on loopback, calm or refusing requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from elastic_ray.results import (
    HeldElsewhere,
    Results,
    ResultsError,
    compact,
    hold,
    holder,
)

pytest.importorskip("moto", reason="the extra dev is not installed")
from object_store import BUCKET, Store, object_store

STATES = [f"s{i}" for i in range(5)]


@pytest.fixture(scope="module")
def running() -> Iterator[Store]:
    with object_store(seed=6) as store:
        yield store


@pytest.fixture
def store(running: Store) -> Store:
    """The store, empty and calm."""
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


def test_a_store_that_refuses_is_asked_again_however_long_it_is_used(store: Store) -> None:
    """The SDK's "standard" strategy asks again a hundred times in a filesystem's life."""
    results = Results(store.uri("results"))
    scored(results)
    store.refuse = 0.3
    while store.refused < 150:
        assert results.recorded("scores") == {(state, "p", "s") for state in STATES}
    assert scores(results) == ALL


def test_a_folder_that_cannot_be_listed_is_an_error_and_never_fewer_rows(store: Store) -> None:
    results = Results(store.uri("results"))
    scored(results)
    store.deny = "prefix=results/scores/"
    with pytest.raises(ResultsError, match="ACCESS_DENIED"):
        results.query("SELECT count(*) FROM scores")


def test_small_files_are_gathered_and_read_once_on_a_refusing_store(store: Store) -> None:
    store.refuse = 0.1
    results = Results(store.uri("results"))
    scored(results)
    assert compact(results, alone=True, at_least=2, delay=0).rows == len(STATES)
    assert scores(results) == ALL
    assert len(compact(results, alone=True, at_least=2, delay=0, grace=0).deleted) == len(STATES)
    assert scores(results) == ALL
    assert results.has("scores", state_id="s3", probe_id="p", scorer="s")


def test_a_row_that_is_replaced_is_read_as_it_is_by_an_open_connection(store: Store) -> None:
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


def test_a_sweep_is_held_by_one_on_a_refusing_store(store: Store) -> None:
    store.refuse = 0.1
    folder = Results(store.uri("results")).folder
    with hold(folder, "little", lambda: "", lambda reason: None) as lease:
        held = holder(folder, "little")
        assert held is not None and held.token == lease.token
        with (
            pytest.raises(HeldElsewhere, match="is run on these results"),
            hold(folder, "little", lambda: "", lambda reason: None),
        ):
            pass
    assert holder(folder, "little") is None


def test_a_bucket_that_is_not_there_is_one_error(store: Store) -> None:
    with pytest.raises(ResultsError, match="nowhere/results"):
        Results(store.uri("results").replace(BUCKET, "nowhere"))


def test_a_query_reaches_nothing_else_in_the_bucket(store: Store) -> None:
    results = Results(store.uri("results"))
    results.folder.filesystem.copy_file(f"{results.folder.root}/elastic.duckdb", f"{BUCKET}/other")
    for place in (f"s3://{BUCKET}/other", f"s3://{BUCKET}/results/../other", "/etc/passwd"):
        with pytest.raises(ResultsError, match="disabled by configuration"):
            results.query(f"FROM read_blob('{place}')")
