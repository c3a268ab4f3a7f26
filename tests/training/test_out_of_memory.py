"""A ladder that does not fit in memory: what is recorded, and that it is not trained again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the training extra is not installed")

from small_sweeps import plan_of, spec_of

from elastic_ray.results.store import Results
from elastic_ray.spec import Recipe, Runtime
from elastic_ray.training import ladder as module
from elastic_ray.training.job import TrainingError, TrainJob, WorkerReport
from elastic_ray.training.ladder import LadderTrainer
from elastic_ray.training.out_of_memory import advice, is_out_of_memory


class TooLarge:
    """In the place of `Trainer`: asks torch for more memory than there is, as it starts."""

    made = 0
    step = 0

    def __init__(self, *arguments: Any) -> None:
        type(self).made += 1

    def start(self) -> None:
        torch.empty(2**50, dtype=torch.uint8)

    def close(self) -> None:
        pass


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainJob:
    plan = plan_of(spec_of())
    monkeypatch.setattr(module, "Trainer", TooLarge)
    monkeypatch.setattr(TooLarge, "made", 0)
    ladders = plan.ladders[:1]
    return TrainJob("small", "t", str(tmp_path), "reviews", {}, ladders, Runtime())


def test_the_error_names_the_setting_and_the_ladder_is_not_tried_again(job: TrainJob) -> None:
    reports: list[WorkerReport] = []
    for attempt in (1, 2):
        reports.clear()
        trainer = LadderTrainer(job, 0, 1, reports.append)
        trainer.train_ladder(job.ladders[0])
        trainer.report({}, force=True)
        [(state, error)] = [pair for report in reports for pair in report["failed"]]
        assert state == job.ladders[0].id
        assert error.startswith("out of memory with workers 1, zero_stage 0, micro_batch 8, "), (
            attempt
        )
        assert "; set training.checkpointing: true (" in error
        row = Results(job.results).state(state)
        assert row is not None and (row["status"], row["error"]) == ("failed", error)
    assert TooLarge.made == 1
    # A later run of the sweep tries again: its settings, or the machine, may be others.
    later = LadderTrainer(replace(job, began=job.began + 1e6), 0, 1, reports.append)
    later.train_ladder(job.ladders[0])
    assert TooLarge.made == 2


def test_with_several_workers_the_group_ends_and_the_next_one_skips_the_ladder(
    job: TrainJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other ranks wait in a collective operation, so no agreement is possible any more."""
    monkeypatch.setattr(LadderTrainer, "_first_of_ranks", lambda self, value: value)
    job = replace(job, runtime=Runtime(workers=2))
    with pytest.raises(TrainingError, match="out of memory with workers 2"):
        LadderTrainer(job, 1, 2, lambda report: None).train_ladder(job.ladders[0])
    reports: list[WorkerReport] = []
    for rank in (0, 1):
        LadderTrainer(job, rank, 2, reports.append).train_ladder(job.ladders[0])
    assert TooLarge.made == 1


def test_other_errors_are_not_taken_for_it(job: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: TooLarge) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(TooLarge, "start", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        LadderTrainer(job, 0, 1, lambda report: None).train_ladder(job.ladders[0])
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(ValueError("CUDA out of memory"))


def test_the_advice_follows_what_is_already_set() -> None:
    runtime, seen = Runtime(workers=2, micro_batch=4), []
    changes: list[dict[str, Any]] = [
        {"checkpointing": True},
        {"micro_batch": 1},
        {"zero_stage": 3},
        {"offload": "optimizer"},
    ]
    for change in changes:
        seen.append(advice(runtime, Recipe()))
        runtime = runtime.model_copy(update=change)
    assert [text.partition(":")[0].removeprefix("training.") for text in seen] == [
        next(iter(change)) for change in changes
    ]
    assert advice(runtime, Recipe()).startswith("training.lora")
