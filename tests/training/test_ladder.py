"""The order of a ladder: steps, snapshots, records and points, with a model that does not train.

`test_training` has the same on the real stack.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_sweeps import plan_of, spec_of

from elastic_ray.placement import point_policy
from elastic_ray.plan import Ladder, Rung
from elastic_ray.results.state_rows import Provenance, SavedCheckpoint, Training, done_row
from elastic_ray.results.store import Results
from elastic_ray.spec import Runtime
from elastic_ray.training import ladder as module
from elastic_ray.training.job import TrainingError, TrainJob
from elastic_ray.training.ladder import LadderTrainer
from elastic_ray.training.snapshot_writer import SnapshotWriter

RUNGS = (2, 4, 8)
"""The steps after which the ladder has a rung."""
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def ladder_of() -> Ladder:
    plan = plan_of(spec_of(positive=[8 * step for step in RUNGS]))
    return next(each for each in plan.ladders if each.stage.kind == "positive")


class Stand:
    """Replaces `trainer.Trainer`; a class for each test, whose attributes say what happens."""

    first = 0
    """The step of the resume point."""
    weights_error: str | None = None
    save: Callable[[Stand, int], None] | None = None
    """Called in the background with the step of the snapshot."""
    made: list[Stand]

    def __init__(
        self, job: TrainJob, ladder: Ladder, results: Results, rank: int, workers: int, before: int
    ) -> None:
        self._ladder, self._results, self._job = ladder, results, job
        self.answers, self.vocabulary_size, self.point_bytes = None, 100, 1000
        self.step, self.before = self.first, before
        self.steps: list[int] = []
        self.saved: list[int] = []
        self.points: list[int] = []
        self.closed = False
        type(self).made.append(self)

    def start(self) -> None:
        pass

    def prepare(self, examples: list[Any]) -> list[Any]:
        return examples

    def train_step(self, batch: list[Any], rate: float) -> float:
        self.step += 1
        self.steps.append(self.step)
        return 1.0

    def gather_weights(self) -> dict[str, Any]:
        if self.weights_error:
            raise TrainingError(self.weights_error)
        return {"step": self.step}

    def training(self) -> Training:
        return Training(1, self.step, 0, 0.0, NOW, NOW, [1.0] * self.step)

    def save_checkpoint(self, state: str, weights: dict[str, Any]) -> SavedCheckpoint:
        if self.save is not None:
            self.save(weights["step"])
        self.saved.append(weights["step"])
        return SavedCheckpoint(f"checkpoints/{state}", 1000, f"sum {weights['step']}")

    def state_row(self, rung: Rung, training: Training, saved: SavedCheckpoint) -> dict[str, Any]:
        planned = self._job.planned_state(self._ladder, rung)
        return done_row(planned, saved, training, Provenance())

    def save_resume_point(self) -> None:
        for rung, step in zip(self._ladder.rungs, RUNGS, strict=True):
            if step <= self.step:
                assert self._results.state(rung.state_id), "a point of no use replaces older ones"
        self.points.append(self.step)
        self._results.folder.put(f"resume/{self._ladder.id}/{self.step:08d}/0", b"point")

    def close(self) -> None:
        self.closed = True


class Run:
    """A ladder trained by a `Stand`, with the reports that it sent."""

    def __init__(self, root: Path, stand: type[Stand], is_preempted: Callable[[], bool] = bool):
        self.ladder, self.results = ladder_of(), Results(root)
        self.reported: list[str] = []
        self.failed: dict[str, str] = {}
        job = TrainJob("small", "t", str(root), "reviews", {}, (self.ladder,), Runtime())
        self.trainer = LadderTrainer(job, 0, 1, self._send, is_preempted)
        self.trainer.train_ladder(self.ladder)
        self.trainer.report({}, force=True)
        self.stand = stand.made[-1] if stand.made else None

    def _send(self, report: Any) -> None:
        for state in report["recorded"]:
            row = self.results.state(state)
            assert row is not None and row["status"] == "done", "reported before it is recorded"
        self.reported += report["recorded"]
        self.failed |= dict(report["failed"])

    def rows(self) -> list[dict[str, Any] | None]:
        return [self.results.state(rung.state_id) for rung in self.ladder.rungs]

    def points(self) -> list[str]:
        return self.results.folder.names(f"resume/{self.ladder.id}")


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> type[Stand]:
    kind: type[Stand] = type("OwnStand", (Stand,), {"made": []})
    monkeypatch.setattr(module, "Trainer", kind)
    monkeypatch.setattr(module, "REPORT_INTERVAL", -1.0)
    return kind


def states(ladder: Ladder) -> list[str]:
    return [rung.state_id for rung in ladder.rungs]


def test_steps_go_on_while_a_snapshot_is_saved(tmp_path: Path, stand: type[Stand]) -> None:
    stepped, overlapped = threading.Event(), []

    class Overlaps(stand):  # type: ignore[misc,valid-type]
        def train_step(self, batch: list[Any], rate: float) -> float:
            if self.step == 2:
                stepped.set()
            return float(super().train_step(batch, rate))

        def save(self, step: int) -> None:
            if step == 2:
                overlapped.append(stepped.wait(30))

    module.Trainer = Overlaps  # type: ignore[misc]  # restored by the fixture
    run = Run(tmp_path, stand)
    assert overlapped == [True]
    assert run.reported == states(run.ladder)
    assert [row and row["tokens"] for row in run.rows()] == list(RUNGS), "as at the rung"
    assert [row and row["checksum"] for row in run.rows()] == [f"sum {step}" for step in RUNGS]


def test_one_copy_of_the_weights_is_held(tmp_path: Path, stand: type[Stand]) -> None:
    held: list[int] = []

    class Counts(stand):  # type: ignore[misc,valid-type]
        def gather_weights(self) -> dict[str, Any]:
            held.append(len(self.gathered) - len(self.saved))
            self.gathered.append(self.step)
            return dict(super().gather_weights())

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.gathered: list[int] = []

        def save(self, step: int) -> None:
            threading.Event().wait(0.05)

    module.Trainer = Counts  # type: ignore[misc]
    Run(tmp_path, stand)
    assert held == [0, 0, 0]


@pytest.mark.parametrize(("broken", "taken"), [(2, 4), (4, 8), (8, 8)])
def test_an_error_of_a_snapshot_fails_the_ladder_at_its_next_rung_or_end(
    tmp_path: Path, stand: type[Stand], broken: int, taken: int
) -> None:
    def full(self: Stand, step: int) -> None:
        if step == broken:
            raise OSError("no space left")

    stand.save = full
    run = Run(tmp_path, stand)
    assert run.stand and run.stand.steps[-1] == taken and run.stand.closed
    done = [step for step in RUNGS if step < broken]
    assert run.reported == states(run.ladder)[: len(done)]
    assert run.failed == dict.fromkeys(states(run.ladder)[len(done) :], "OSError: no space left")
    assert [row and row["status"] for row in run.rows()] == ["done"] * len(done) + ["failed"] * (
        len(RUNGS) - len(done)
    )


def test_a_failure_that_the_writer_does_not_know_ends_the_process(
    tmp_path: Path, stand: type[Stand]
) -> None:
    def wrong(self: Stand, step: int) -> None:
        raise KeyError("a bug")

    stand.save = wrong
    with pytest.raises(KeyError, match="a bug"):
        Run(tmp_path, stand)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, stand: type[Stand]) -> None:
    stand.weights_error = "diverged: w holds values that are not finite"
    run = Run(tmp_path, stand)
    assert set(run.failed.values()) == {"diverged: w holds values that are not finite"}
    assert run.stand and run.stand.saved == [] and run.stand.steps == [1, 2]


def test_a_ladder_is_trained_past_recorded_rungs_and_not_beyond_the_last_missing_one(
    tmp_path: Path, stand: type[Stand]
) -> None:
    first = Run(tmp_path, stand)
    assert first.stand and first.stand.before == 2, "a point beyond the first rung is of no use"
    before = first.rows()
    middle = first.ladder.rungs[1].state_id
    first.results.delete_checkpoint(middle)

    class Second(Run):
        def __init__(self) -> None:
            self.ladder, self.results, self.reported = ladder_of(), Results(tmp_path), []
            job = TrainJob(
                "small", "t", str(tmp_path), "reviews", {}, (self.ladder,), Runtime(),
                remade=frozenset({middle}),
            )  # fmt: skip
            self.failed = {}
            LadderTrainer(job, 0, 1, self._send).train_ladder(self.ladder)

    second = Second()
    last = stand.made[-1]
    assert last.before == 4 and last.steps == [1, 2, 3, 4] and last.saved == [4]
    assert second.rows() == before
    Run(tmp_path, stand)
    assert len(stand.made) == 2, "a whole ladder is not trained again"


def test_a_ladder_continues_after_its_resume_point(tmp_path: Path, stand: type[Stand]) -> None:
    stand.first = 1
    run = Run(tmp_path, stand)
    assert run.stand and run.stand.saved == [2, 4, 8] and run.stand.steps == list(range(2, 9))
    assert run.reported == states(run.ladder)


def test_points_are_written_where_they_pay_and_none_is_left(
    tmp_path: Path, stand: type[Stand], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Run(tmp_path / "usual", stand)
    assert usual.stand and usual.stand.points == []
    monkeypatch.setattr(point_policy, "SECONDS_BETWEEN_FAILURES", 0.0)
    stand.save = lambda self, step: threading.Event().wait(0.05) and None
    run = Run(tmp_path / "often", stand)
    assert run.stand and run.stand.points == list(range(1, 8)) and run.points() == []


def test_a_preempted_ladder_leaves_its_newest_point_and_its_snapshots(
    tmp_path: Path, stand: type[Stand]
) -> None:
    asked: list[bool] = []

    def is_preempted() -> bool:
        asked.append(True)
        return len(asked) == 5

    run = Run(tmp_path, stand, is_preempted)
    assert run.trainer.preempted and run.stand and run.stand.points == [5]
    assert run.points() == ["00000005"] and run.reported == states(run.ladder)[:2]


@pytest.mark.parametrize(
    ("allocated", "held"),
    [
        ([None, None], False),
        ([(10, 1000), (10, 1000)], False),
        ([(10, 1000), (60, 1000)], False),
        ([(10, 1000), (61, 1000)], True),
    ],
)
def test_memory_that_a_closed_ladder_keeps_ends_the_process(
    tmp_path: Path,
    stand: type[Stand],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    allocated: Sequence[tuple[int, int] | None],
    held: bool,
) -> None:
    measured = iter(allocated)

    def allocated_memory() -> tuple[int, int] | None:
        assert all(each.closed for each in stand.made)
        return next(measured)

    monkeypatch.setattr(module, "allocated_memory", allocated_memory)
    assert Run(tmp_path, stand).trainer.memory_held is held
    assert ("stay allocated" in caplog.text) is held


def test_a_snapshot_must_be_waited_for() -> None:
    writer, go = SnapshotWriter(), threading.Event()

    def save() -> int:
        go.wait(30)
        return 10

    writer.start("a", save)
    assert writer.take_recorded() == [] and writer.bytes_per_second is None
    with pytest.raises(RuntimeError, match="a has not been waited for"):
        writer.start("b", save)
    go.set()
    assert writer.wait() is None and writer.wait() is None
    assert writer.take_recorded() == ["a"] and writer.take_recorded() == []
    assert writer.bytes_per_second
