"""Two sweeps at once on one results folder: what they share is computed once."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elastic_ray.driver.checkpoint_cleanup import CheckpointCleanup
from elastic_ray.driver.coordination import StateCoordinator
from elastic_ray.progress.grid_rows import cell_rows
from elastic_ray.progress.tracker import ProgressTracker
from elastic_ray.results.errors import ResultsError
from elastic_ray.results.leases import sweep_lease
from elastic_ray.results.store import Results

pytest.importorskip("ray", reason="the training extra is not installed")
from small_sweeps import plan_of, spec_of
from sweep_process import start

from elastic_ray.driver.housekeeping import Housekeeping

SPEC = """
sweep: {name}
task: {{name: reviews, scorer: none}}
models:
  - {{name: little, init: {{hidden_size: 64, layers: 1}}, pretrain: [640]}}
positive: [16, 64]
negative: {negative}
training: {{learning_rate: 2.0e-3, global_batch: 8, pretrain: {{global_batch: 32}}}}
generation: {{prompts: 8, max_tokens: 8}}
resources: {{engines: {{engine: transformers}}}}
keep: {keep}
"""


@pytest.mark.integration
@pytest.mark.slow
def test_overlapping_grids_at_once(tmp_path: Path) -> None:
    """A state that both computed would be recorded by the first, and fail the other's cells."""
    results = tmp_path / "results"
    grids = {"few": ([8], "none"), "more": ([8, 24], "all")}
    runs = {}
    for name, (negative, keep) in grids.items():
        spec = tmp_path / f"{name}.yaml"
        spec.write_text(SPEC.format(name=name, negative=negative, keep=keep))
        runs[name] = start(spec, results)
    for name, run in runs.items():
        said, _ = run.communicate(timeout=900)
        assert run.returncode == 0, f"{name}: {said}"
    read = Results(results, read_only=True)
    cells = read.query("SELECT sweep, state_id, status FROM cell_scores").to_pylist()
    assert {cell["status"] for cell in cells} == {"done"}
    few, more = ({c["state_id"] for c in cells if c["sweep"] == name} for name in grids)
    assert few < more and len(more) == 1 + 2 * 3
    states = read.query("SELECT status, kind, sweep FROM states").to_pylist()
    assert len(states) == len(more) + 1, "and the start"
    assert {state["status"] for state in states} == {"done"}
    assert read.query("FROM failures").num_rows == 0


def test_what_another_driver_records_is_taken_over(tmp_path: Path) -> None:
    plan = plan_of(spec_of(positive=[8], negative=[8]))
    results = Results(tmp_path)
    base, first, second = list(plan.states)[1:4]
    tracker = ProgressTracker(plan, [], [], [])
    requeued = []
    with sweep_lease.acquire_sweep_lease(results.folder, "a", str, print) as a:
        mine = StateCoordinator(results, a, tracker)
        with sweep_lease.acquire_sweep_lease(results.folder, "b", str, print) as b:
            others = StateCoordinator(results, b, ProgressTracker(plan, [], [], []))
            assert others.claim([first, second]) and not mine.claim([first])
            with mine.alone() as alone:
                assert not alone, "b may be about to start from what would go"
            row = {"kind": "positive", "status": "done", "checkpoint": f"checkpoints/{first}"}
            results.write("states", [{"state_id": first, **row}])
            mine.poll(lambda: requeued.append(True))
            assert tracker.done == {first} and requeued == [True]
            mine.poll(lambda: requeued.append(True))
            assert requeued == [True], "nothing is left to others now"
            assert not mine.claim([second])
            failed = {"kind": "negative", "status": "failed", "error": "diverged at step 3"}
            results.write("states", [{"state_id": second, **failed}])
            mine.poll(lambda: None)
            assert tracker.failed == {second: "diverged at step 3"}
        with mine.alone() as alone:
            assert alone
        assert mine.claim([base])
        tracker.state_done(base)
        mine.poll(lambda: None)
        claims = list((tmp_path / "leases" / "work").glob(f"{base}*"))
        assert claims == [], "what is done is claimed no more"


@pytest.mark.parametrize(
    ("keep", "kept"),
    [("all", {"pretrain", "positive", "negative"}), ("base", {"pretrain"}), ("none", set())],
)
def test_what_another_sweep_keeps_is_not_deleted(tmp_path: Path, keep: str, kept: set[str]) -> None:
    """The start, which no cell is at, is its own sweep's alone."""
    plan = plan_of(spec_of(positive=[8], negative=[8], keep="none"))
    results = Results(tmp_path)
    kinds = {s: node.stage.kind if node.stage else "start" for s, node in plan.states.items()}
    for state, kind in kinds.items():
        folder = tmp_path / results.checkpoint_name(state)
        folder.mkdir(parents=True)
        row = {"state_id": state, "kind": kind, "status": "done", "sweep": plan.spec.sweep}
        results.write("states", [{**row, "checkpoint": results.checkpoint_name(state)}])
    tracker = ProgressTracker(plan, set(kinds), plan.requests(), plan.requests())
    cells = [{**row, "sweep": "other"} for row in cell_rows(plan, tracker)]
    results.replace("cells", "other", cells)
    row = {"spec": {"keep": keep}, "recorded_at": dt.datetime.now(dt.UTC)}
    results.replace("sweeps", "other", [row])
    with sweep_lease.acquire_sweep_lease(results.folder, plan.spec.sweep, str, print) as lease:
        CheckpointCleanup(
            plan, tracker, results, StateCoordinator(results, lease, tracker)
        ).delete_remaining()
    there = {kinds[state] for state in kinds if results.state(state)["checkpoint"]}
    assert there == kept
    assert {kinds[folder.name] for folder in (tmp_path / "checkpoints").iterdir()} == kept


def test_a_failed_poll_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(spec_of(positive=[8], negative=[8]))
    results = Results(tmp_path)
    state = list(plan.states)[2]
    tracker = ProgressTracker(plan, [], [], [])
    requeued = []
    with (
        sweep_lease.acquire_sweep_lease(results.folder, "a", str, print) as a,
        sweep_lease.acquire_sweep_lease(results.folder, "b", str, print) as b,
    ):
        mine = StateCoordinator(results, a, tracker)
        assert StateCoordinator(results, b, ProgressTracker(plan, [], [], [])).claim([state])
        assert not mine.claim([state])

        def refused(state: str) -> None:
            raise ResultsError("the store is unreachable")

        with monkeypatch.context() as patch:
            patch.setattr(results, "state", refused)
            with pytest.raises(ResultsError, match="unreachable"):
                mine.poll(lambda: requeued.append(True))
        assert not requeued
        mine.poll(lambda: requeued.append(True))
        assert requeued == [True]
        with monkeypatch.context() as patch:
            patch.setattr(results.folder, "put", lambda *_: refused(""))
            assert not mine.claim(["another"]), "postponed, and tried again"
        mine.poll(lambda: requeued.append(True))
        assert requeued == [True, True] and mine.claim(["another"])


def test_results_that_do_not_respond_are_reported_once() -> None:
    messages: list[str] = []
    fails = [True, True, False, False]

    def poll(requeue: object) -> None:
        if fails.pop(0):
            raise ResultsError("nobody listens")

    housekeeping: Any = SimpleNamespace(
        _coordinator=SimpleNamespace(poll=poll),
        _requeue_postponed=None,
        _display=SimpleNamespace(notify=messages.append),
        _unreachable=False,
    )
    for _ in range(4):
        asyncio.run(Housekeeping.poll_others(housekeeping))
    assert messages == [
        "the results do not respond; what needs them waits: nobody listens",
        "the results respond again",
    ]
