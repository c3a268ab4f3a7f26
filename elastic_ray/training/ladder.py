"""Trains ladders inside the workers of a Ray Train run: loads a parent, saves each rung.

Every rank runs `LadderTrainer.train_ladder`. Each ladder starts from its parent's *saved* weights
with a fresh optimiser, also when both are trained in one process (docs/concepts.md#rule-3). After
each rung the weights are saved, then the state is recorded, then reported. The rungs of a ladder
that fails are recorded as failed, and the next ladder begins; the ranks agree on this first, so
that none waits for another. When the cloud announces that it preempts a node, the ladder stops
between two snapshots with a resume point, from which another worker group continues it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ..checkpoints.files import CheckpointError
from ..plan import Ladder, Rung
from ..results.errors import ResultsError
from ..results.state_rows import Provenance, failed_row
from ..results.store import Results
from ..tasks.registry import load_task
from ..tasks.task import Task
from . import checkpoint_io
from .batches import global_batches, learning_rate, step_count
from .job import TrainingError, TrainJob, WorkerReport
from .out_of_memory import describe, failed_before
from .provenance import versions
from .resume_point import remove_older_points, remove_points
from .trainer import Trainer

DIVERGED_STEPS = 20
"""Consecutive steps with a loss above `DIVERGED_LOSS` after which a ladder counts as diverged."""
DIVERGED_LOSS = 2.0
"""In units of log(vocabulary size), the loss of a uniform guess."""
AGREE_INTERVAL = 5.0
"""Seconds, about, between the points at which several ranks agree whether a report is due. A single
rank checks its own clock after every step."""
REPORT_INTERVAL = 0.5
"""Seconds between reports. Ray Train takes one report per poll, and blocks a faster worker."""


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
        self._results = Results(job.results, patient=True)
        self._recorded: list[str] = []
        self._failed: dict[str, str] = {}
        self._last_report = time.monotonic()
        self._train_seconds = 0.0
        self._task: Task = load_task(job.task, job.data)

    def train_ladder(self, ladder: Ladder) -> None:
        """Train a ladder to its last rung, or record why this is not possible."""
        began = time.monotonic()
        recorded = self._recorded_rungs(ladder)
        self._recorded += recorded
        missing = {rung.state_id for rung in ladder.rungs} - set(recorded)
        if missing:
            self._train_missing(ladder, missing)
        self._train_seconds += time.monotonic() - began

    def _train_missing(self, ladder: Ladder, missing: set[str]) -> None:
        trainer = None
        # What a worker group of this run found too large is not trained again as it was.
        error = self._first_of_ranks(failed_before(self._results, ladder, self._job.began))
        if error is None:
            try:
                trainer = Trainer(self._job, ladder, self._results, self._rank, self._workers)
            except (CheckpointError, TrainingError, ResultsError, OSError, ValueError) as e:
                error = f"{type(e).__name__}: {e}"
            except Exception as e:
                error = describe(e, self._job.runtime_of(ladder), ladder.stage.recipe)
            # DeepSpeed's set-up is collective: no rank may wait there for one that failed to load.
            error = self._first_of_ranks(error)
        if error is None and trainer is not None:
            try:
                trainer.start()
                error = self._train_steps(trainer, ladder, missing)
            except Exception as e:
                error = describe(e, self._job.runtime_of(ladder), ladder.stage.recipe)
                if self._workers > 1:  # the other ranks wait in a collective: end the group
                    self._write_failure(ladder, error)
                    raise TrainingError(error) from e
        if trainer is not None:
            trainer.close()
        if error is not None:
            self._record_failure(ladder, error)

    def _recorded_rungs(self, ladder: Ladder) -> list[str]:
        """Return the states of the ladder that need no training."""
        recorded = []
        for rung in ladder.rungs:
            row = self._results.state(rung.state_id)
            if row is None or row["status"] != "done":
                continue
            if row["checkpoint"] is not None or rung.state_id not in self._job.remade:
                recorded.append(rung.state_id)
        return recorded

    def _train_steps(self, trainer: Trainer, ladder: Ladder, missing: set[str]) -> str | None:
        """Take every step and save the rungs that are missing.

        Returns the error that ended the ladder early, the same on all ranks.
        """
        recipe = ladder.stage.recipe
        total = step_count(ladder.examples, recipe)
        rungs = {step_count(rung.examples, recipe): rung for rung in ladder.rungs}
        report_every, began, first_step = 1, time.monotonic(), trainer.step
        pool = trainer.answers or self._task.pool(ladder.stage.pool)
        batches = global_batches(len(pool), ladder.examples, recipe, ladder.stage.seed)
        too_high: deque[bool] = deque(maxlen=DIVERGED_STEPS)
        for step, chosen in enumerate(batches):
            if step < trainer.step:  # taken before the resume point
                continue
            rate = learning_rate(step, total, recipe)
            loss = trainer.train_step([pool[i] for i in chosen], rate)
            too_high.append(loss > DIVERGED_LOSS * math.log(trainer.vocabulary_size))
            if not math.isfinite(loss) or (len(too_high) == DIVERGED_STEPS and all(too_high)):
                return (
                    f"diverged at step {step + 1} of {total}: loss {loss:g}, learning rate "
                    f"{recipe.learning_rate:g}; a lower learning_rate or a warm-up may help"
                )
            rung = rungs.get(step + 1)
            if rung is not None:
                error = self._save_rung(trainer, ladder, rung, rung.state_id in missing)
                error = self._first_of_ranks(error)
                if error is not None:
                    return error
                self._recorded.append(rung.state_id)
                if self._rank == 0:
                    remove_older_points(self._results, ladder.id, trainer.step)
            if self._workers > 1 and step == first_step + 2:
                step_seconds = (time.monotonic() - began) / 3
                steps = max(1, round(AGREE_INTERVAL / step_seconds))
                report_every = int(self._first_of_ranks(str(steps)) or 1)
            if rung is not None or (step + 1) % report_every == 0:
                self.report(_progress(ladder, step + 1))
            if self.preempted and step + 1 < total:
                if rung is None:
                    self._save_resume_point(trainer, ladder)
                return None
        return None

    def _save_resume_point(self, trainer: Trainer, ladder: Ladder) -> None:
        """Save a resume point between two snapshots.

        If that fails, the ladder continues from its last snapshot.
        """
        recipe = ladder.stage.recipe
        passed = [
            rung.state_id
            for rung in ladder.rungs
            if step_count(rung.examples, recipe) <= trainer.step
        ]
        try:
            trainer.save_resume_point(passed[-1] if passed else ladder.parent_id, moved=True)
        except (ResultsError, OSError) as e:
            logging.getLogger(__name__).warning("no resume point: %s", e)

    def report(self, progress: WorkerReport, force: bool = False) -> None:
        """Report `progress` and what was recorded or failed since the last report, if one is due.

        A report is due after `REPORT_INTERVAL`, or with `force`. Every rank must call it.
        """
        due = force or time.monotonic() - self._last_report > REPORT_INTERVAL
        if self._workers > 1 and not force:
            due = self._first_of_ranks("due" if due and self._rank == 0 else None) is not None
        if due:
            # No key may be called "done": Tune would take it for the end of the trial.
            report: WorkerReport = {
                **progress,
                "recorded": self._recorded,
                "failed": list(self._failed.items()),
                "train_seconds": self._train_seconds,
            }
            self._send(report)
            self._recorded, self._failed, self._last_report = [], {}, time.monotonic()
            self.preempted = self.preempted or self._is_preempted()

    def _save_rung(self, trainer: Trainer, ladder: Ladder, rung: Rung, missing: bool) -> str | None:
        """Save and record a missing rung, and its resume point; return the error, if any."""
        try:
            weights = trainer.gather_weights()
            if self._rank == 0 and missing:
                checkpoint_io.check_weights(weights, trainer.shapes)
                saved = trainer.save_checkpoint(rung.state_id, weights)
                if rung.state_id in self._job.remade:
                    self._results.restore_checkpoint(
                        rung.state_id, saved.checkpoint, saved.checksum
                    )
                else:
                    self._results.write("states", [trainer.state_row(rung, saved)])
            if rung is not ladder.rungs[-1]:
                trainer.save_resume_point(rung.state_id, moved=False)
            elif self._rank == 0:
                remove_points(self._results, ladder.id)
        except (TrainingError, ResultsError, OSError) as e:
            text = str(e)
            return text if text.startswith("diverged") else f"{type(e).__name__}: {text}"
        return None

    def _first_of_ranks(self, value: str | None) -> str | None:
        """Return the first value over all ranks that is not None, the same on every rank."""
        if self._workers == 1:
            return value
        import torch.distributed as dist

        values: list[str | None] = [None] * self._workers
        dist.all_gather_object(values, value)
        return next((each for each in values if each is not None), None)

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
    message = (
        f"training {ladder.stage.kind} {examples:,}/{ladder.examples:,} "
        f"from {ladder.parent_id[:8]} (seed {ladder.stage.seed})"
    )
    return {"ladder": ladder.id, "examples": examples, "message": message}


def train_ladders(config: Mapping[str, Any]) -> None:
    """Train all ladders of `config["job"]` in order: the train function of a Ray Train worker."""
    import deepspeed  # noqa: F401
    import ray.train
    import torch

    gc.freeze()  # the collection after each ladder need not visit the libraries' objects
    job: TrainJob = config["job"]
    torch.set_num_threads(math.ceil(job.runtime.cpus_per_worker))
    context = ray.train.get_context()
    trainer = LadderTrainer(
        job,
        context.get_world_rank(),
        context.get_world_size(),
        lambda report: ray.train.report(dict(report)),
        lambda: ray.train.get_preemption_info() is not None,
    )
    for ladder in job.ladders:
        if not trainer.preempted:
            trainer.train_ladder(ladder)
    trainer.report({"preempted": True} if trainer.preempted else {}, force=True)
