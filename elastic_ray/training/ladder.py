"""Trains ladders inside the workers of a Ray Train run: loads a parent, saves each rung.

Every rank runs `LadderTrainer.train_ladder`. Each ladder starts from its parent's *saved* weights
with a fresh optimiser, also when both are trained in one process (docs/concepts.md#rule-3). At each
rung rank 0 copies the weights. While the next steps train, they are saved, then the state is
recorded, then reported; a ladder ends once its last state is recorded. The rungs of a ladder that
fails are recorded as failed, and the next ladder begins; the ranks agree on this first, so that
none waits for another. When the cloud announces that it preempts a node, the ladder stops with a
resume point, from which another worker group continues it. Long ladders also write points in case
that a process ends without notice; without a point, a ladder is trained again from its parent,
past the rungs that are recorded.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import logging
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping

from ..checkpoints.files import CheckpointError
from ..plan import Ladder, Rung
from ..results.errors import ResultsError
from ..results.state_rows import Provenance, failed_row
from ..results.store import Results
from ..tasks.registry import load_task
from ..tasks.task import Task
from .agreement import T, first_of_ranks
from .ahead import ahead
from .batches import global_batches, learning_rate, step_count
from .held_memory import allocated_memory, memory_held
from .job import TrainingError, TrainJob, WorkerReport
from .out_of_memory import describe, failed_before
from .point_writer import PointWriter
from .provenance import versions
from .resume_point import remove_points
from .snapshot_writer import SnapshotWriter
from .trainer import Trainer

DIVERGED_STEPS = 20
"""Consecutive steps with a loss above `DIVERGED_LOSS` after which a ladder counts as diverged."""
DIVERGED_LOSS = 2.0
"""In units of log(vocabulary size), the loss of a uniform guess."""
AGREE_INTERVAL = 5.0
"""Seconds, about, between the points at which several ranks agree whether a report is due. A single
rank checks its own clock after every step."""
REPORT_INTERVAL = 0.5
"""Seconds between reports."""


class LadderTrainer:
    """Trains ladders on one rank.

    All ranks call `send` at the same steps; only rank 0's report is used. After each report they
    call `is_preempted`, which says whether one of their nodes is about to be preempted.
    """

    def __init__(
        self,
        job: TrainJob,
        rank: int,
        workers: int,
        send: Callable[[WorkerReport], None],
        is_preempted: Callable[[], bool] = bool,
    ) -> None:
        self._job, self._rank, self._workers = job, rank, workers
        self._send, self._is_preempted = send, is_preempted
        self.preempted = False
        """Whether to stop early because a node is about to be preempted."""
        self.memory_held = False
        """Whether to stop early because closed ladders keep GPU memory of a rank."""
        self._memory_before: tuple[int, int] | None = None
        self._results = Results(job.results, patient=True)
        self._snapshots = SnapshotWriter()
        self._points = PointWriter(self._results, rank, workers)
        self._recorded: list[str] = []
        self._failed: dict[str, str] = {}
        self._last_report = time.monotonic()
        self._seconds: dict[str, float] = defaultdict(float)
        """By kind of work (see `WorkerReport`); "train" is added at the end of a ladder."""
        self._task: Task = load_task(job.task, job.data)

    def train_job(self) -> None:
        """Train all ladders of the job in order."""
        for ladder in self._job.ladders:
            if not (self.preempted or self.memory_held):
                self.train_ladder(ladder)
        ended: WorkerReport = {"ended": True}
        stopped = self.preempted or self.memory_held
        self.report({**ended, "preempted": True} if stopped else ended, force=True)

    def train_ladder(self, ladder: Ladder) -> None:
        """Train a ladder to its last rung, or record why this is not possible."""
        began, before = time.monotonic(), sum(self._seconds.values())
        if self._memory_before is None:
            self._memory_before = allocated_memory()
        recorded = self._recorded_rungs(ladder)
        self._recorded += recorded
        recipe = ladder.stage.recipe
        missing = {
            step_count(rung.examples, recipe): rung
            for rung in ladder.rungs
            if rung.state_id not in recorded
        }
        if missing:
            self._train_missing(ladder, missing)
            held = memory_held(self._memory_before, allocated_memory())
            if held is not None:
                logging.getLogger(__name__).warning("rank %d: %s", self._rank, held)
            self.memory_held = self._first_of_ranks(held) is not None
        beside = sum(self._seconds.values()) - before
        self._seconds["train"] += time.monotonic() - began - beside

    def _train_missing(self, ladder: Ladder, missing: Mapping[int, Rung]) -> None:
        """Train the rungs of `missing`, by the step after which each is saved."""
        trainer = None
        # What a worker group of this run found too large is not trained again as it was.
        error = self._first_of_ranks(failed_before(self._results, ladder, self._job.began))
        if error is None:
            try:
                with self._timed("load models"):
                    trainer = Trainer(
                        self._job, ladder, self._results, self._rank, self._workers, min(missing)
                    )
            except (CheckpointError, TrainingError, ResultsError, OSError, ValueError) as e:
                error = f"{type(e).__name__}: {e}"
            except Exception as e:
                error = describe(e, self._job.runtime_of(ladder), ladder.stage.recipe)
            # DeepSpeed's set-up is collective: no rank may wait there for one that failed to load.
            error = self._first_of_ranks(error)
        if error is None and trainer is not None:
            try:
                with self._timed("load models"):
                    trainer.start()
                error = self._train_steps(trainer, ladder, missing)
            except Exception as e:
                error = describe(e, self._job.runtime_of(ladder), ladder.stage.recipe)
                if self._workers > 1:  # the other ranks wait in a collective: end the group
                    self._write_failure(ladder, error)
                    raise TrainingError(error) from e
            finally:
                with self._timed("save snapshots"):
                    unsaved = self._snapshots.wait()
            error = self._first_of_ranks(error or unsaved)
            if error is None and trainer.step == max(missing) and self._rank == 0:
                remove_points(self._results, ladder.id)
            self.report(_progress(ladder, trainer.step))
        if trainer is not None:
            trainer.close()
        if error is not None:
            self._record_failure(ladder, error)

    def _recorded_rungs(self, ladder: Ladder) -> list[str]:
        """Return the states of the ladder that need no training, as rank 0 sees them."""
        recorded = []
        for rung in ladder.rungs if self._rank == 0 else ():
            row = self._results.state(rung.state_id)
            if row is None or row["status"] != "done":
                continue
            if row["checkpoint"] is not None or rung.state_id not in self._job.remade:
                recorded.append(rung.state_id)
        return self._first_of_ranks(recorded if self._rank == 0 else None) or []

    def _train_steps(
        self, trainer: Trainer, ladder: Ladder, missing: Mapping[int, Rung]
    ) -> str | None:
        """Take every step to the last rung of `missing`, and begin to save each of these.

        Returns the error that ended the ladder early, the same on all ranks.
        """
        recipe = ladder.stage.recipe
        total, last = step_count(ladder.examples, recipe), max(missing)
        report_every, spent, safe = 1, 0.0, 0.0  # seconds of all steps, of those before the point
        pool = trainer.answers or self._task.pool(ladder.stage.pool)
        batches = global_batches(len(pool), ladder.examples, recipe, ladder.stage.seed)
        too_high: deque[bool] = deque(maxlen=DIVERGED_STEPS)
        first = trainer.step
        left = itertools.islice(batches, first, last)
        prepared = ahead(lambda chosen: trainer.prepare([pool[i] for i in chosen]), left)
        for step, batch in enumerate(prepared, start=first):
            rate, began = learning_rate(step, total, recipe), time.monotonic()
            loss = trainer.train_step(batch, rate)
            spent += time.monotonic() - began
            too_high.append(loss > DIVERGED_LOSS * math.log(trainer.vocabulary_size))
            if not math.isfinite(loss) or (len(too_high) == DIVERGED_STEPS and all(too_high)):
                return (
                    f"diverged at step {step + 1} of {total}: loss {loss:g}, learning rate "
                    f"{recipe.learning_rate:g}; a lower learning_rate or a warm-up may help"
                )
            rung = missing.get(step + 1)
            if rung is not None:
                with self._timed("save snapshots"):
                    error = self._begin_snapshot(trainer, rung)
                if error is not None:
                    return error
            if self._workers > 1 and step == first + 2:
                steps = max(1, round(AGREE_INTERVAL / (spent / 3)))
                report_every = int(self._first_of_ranks(str(steps)) or 1)
            if rung is not None or (step + 1) % report_every == 0:
                self.report(_progress(ladder, step + 1))
                if step + 1 == last:
                    return None
                speed = self._snapshots.bytes_per_second
                if self.preempted or self._points.is_due(trainer, spent - safe, speed):
                    # A point beyond a rung that is not recorded would be of no use.
                    with self._timed("save points"):
                        error = self._first_of_ranks(self._snapshots.wait())
                        if error is not None:
                            return error
                        self._points.save(trainer, ladder.id)
                    safe = spent
                if self.preempted:
                    return None
        return None

    def _begin_snapshot(self, trainer: Trainer, rung: Rung) -> str | None:
        """Copy the weights of a rung on rank 0 and begin to save them.

        Waits for the previous snapshot, and returns its error or that of this one, the same on all
        ranks.
        """
        error = self._first_of_ranks(self._snapshots.wait())
        if error is not None:
            return error
        try:
            weights = trainer.gather_weights()
        except TrainingError as e:
            error = str(e)
        else:
            training = trainer.training()

            def save() -> int:
                saved = trainer.save_checkpoint(rung.state_id, weights)
                if rung.state_id in self._job.remade:
                    self._results.restore_checkpoint(
                        rung.state_id, saved.checkpoint, saved.checksum
                    )
                else:
                    self._results.write("states", [trainer.state_row(rung, training, saved)])
                return saved.checkpoint_bytes

            if self._rank == 0:
                self._snapshots.start(rung.state_id, save)
        return self._first_of_ranks(error)

    def report(self, progress: WorkerReport, force: bool = False) -> None:
        """Report `progress` and what was recorded or failed since the last report, if one is due.

        A report is due after `REPORT_INTERVAL`, or with `force`. Every rank must call it.
        """
        due = force or time.monotonic() - self._last_report > REPORT_INTERVAL
        if self._workers > 1 and not force:
            due = self._first_of_ranks("due" if due and self._rank == 0 else None) is not None
        if due:
            # No key may be called "done": Tune would take it for the end of the trial.
            self._recorded += self._snapshots.take_recorded()
            report: WorkerReport = {
                **progress,
                "recorded": self._recorded,
                "failed": list(self._failed.items()),
                "seconds": dict(self._seconds),
            }
            self._send(report)
            self._recorded, self._failed, self._last_report = [], {}, time.monotonic()
            self.preempted = self.preempted or self._is_preempted()

    @contextlib.contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        """Count the seconds of the block as that kind of work."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[kind] += time.monotonic() - began

    def _first_of_ranks(self, value: T | None) -> T | None:
        return first_of_ranks(value, self._workers)

    def _record_failure(self, ladder: Ladder, error: str) -> None:
        """Record and report the remaining rungs of a ladder as failed."""
        if self._rank == 0:
            self._write_failure(ladder, error)
        for rung in self._unfinished(ladder):
            self._failed[rung.state_id] = error
        self.report({})

    def _write_failure(self, ladder: Ladder, error: str) -> None:
        """Record the remaining rungs of a ladder as failed."""
        provenance = Provenance(self._job.git_revision, versions(), trial=self._job.trial)
        for rung in self._unfinished(ladder):
            row = self._results.state(rung.state_id)
            if row is None or row["status"] == "failed":
                failed = failed_row(self._job.planned_state(ladder, rung), error, provenance)
                failed["finished_at"] = dt.datetime.now(dt.UTC)
                # On a full disk the row cannot be written; the report still carries the error.
                with contextlib.suppress(ResultsError, OSError):
                    self._results.write("states", [failed])

    def _unfinished(self, ladder: Ladder) -> list[Rung]:
        """Return the rungs that are not recorded with their checkpoint."""
        rows = {rung: self._results.state(rung.state_id) for rung in ladder.rungs}
        return [
            rung
            for rung, row in rows.items()
            if row is None or row["status"] != "done" or row["checkpoint"] is None
        ]


def _progress(ladder: Ladder, step: int) -> WorkerReport:
    """Return the progress of a ladder after that many steps."""
    examples = min(ladder.examples, step * ladder.stage.recipe.global_batch)
    return {"ladder": ladder.id, "examples": examples}
