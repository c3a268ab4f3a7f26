"""One ladder, inside the workers of a Ray Train run: parent's weights in, snapshots out.

Every rank runs `LadderTrainer.climb`. Each ladder starts from its parent's *saved* weights with a fresh
optimiser, also when both ran in this process (design, rule 3). After a rung: weights saved, then
the state recorded, then reported. A ladder that cannot go on is recorded as failed, rung by rung,
and the next one begins; ranks agree on it first, so that none waits for another. Where the cloud
gives notice that it takes a node, the ladder stops between two snapshots with a resume point, and
goes on elsewhere from there.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ..checkpoints.files import CheckpointError
from ..plan import Ladder, Rung
from ..results.schemas import ResultsError
from ..results.state_rows import Provenance, failed_row
from ..results.store import Results
from ..tasks.registry import load_task
from ..tasks.task import Task
from . import checkpoint_io as snapshot
from .batches import learning_rate, order, steps
from .job import TrainingError, TrainJob
from .provenance import versions
from .resume_point import remove_older, remove_point
from .trainer import Trainer

PATIENCE = 20
"""Steps in a row with a loss above `HOPELESS` x log(vocabulary) after which a ladder diverged."""
HOPELESS = 2.0
CHECK_EVERY = 5.0
"""Seconds, about, after which several ranks agree whether a report is due; one just looks."""
REPORT_EVERY = 0.5
"""Seconds between reports: Ray Train takes one per poll, and makes a quicker worker wait."""

Report = Callable[[dict[str, Any]], None]


class LadderTrainer:
    """Walks ladders on this rank. `report` is called by all ranks in step, rank 0's words count;
    after it `noticed`, which says whether a node of theirs is about to be taken away."""

    def __init__(
        self,
        job: TrainJob,
        rank: int,
        workers: int,
        report: Report,
        noticed: Callable[[], bool] = bool,
    ) -> None:
        self._job, self._rank, self._workers, self._report = job, rank, workers, report
        self._noticed = noticed
        self.leaving = False
        """Whether there is nothing more to do here, as a node is about to go."""
        self._results = Results(job.results, patient=True)
        self._done: list[str] = []
        self._failed: dict[str, str] = {}
        self._reported = time.monotonic()
        self._worked = 0.0
        self._task: Task = load_task(job.task, job.data)

    def climb(self, ladder: Ladder) -> None:
        """Train one ladder to its last rung, or record why not."""
        began = time.monotonic()
        self._climb(ladder)
        self._worked += time.monotonic() - began

    def _climb(self, ladder: Ladder) -> None:
        done = self._recorded(ladder)
        self._done += done
        left = [rung for rung in ladder.rungs if rung.state_id not in done]
        if not left:
            return
        run = None
        error = None
        try:
            run = Trainer(self._job, ladder, self._results, self._rank, self._workers)
        except (CheckpointError, TrainingError, ResultsError, OSError, ValueError) as e:
            error = f"{type(e).__name__}: {e}"
        error = self._agree(error)
        if error is None and run is not None:
            error = self._walk(run, ladder, {rung.state_id for rung in left})
        if run is not None:
            run.close()
        if error is not None:
            self._give_up(ladder, error)

    def _recorded(self, ladder: Ladder) -> list[str]:
        """Rungs that are done, with their checkpoint where it is wanted."""
        done = []
        for rung in ladder.rungs:
            row = self._results.state(rung.state_id)
            if row is None or row["status"] != "done":
                continue
            if row["checkpoint"] is not None or rung.state_id not in self._job.remade:
                done.append(rung.state_id)
        return done

    def _walk(self, run: Trainer, ladder: Ladder, wanted: set[str]) -> str | None:
        """Take every step; returns the error that ended it early, on all ranks the same."""
        recipe = ladder.stage.recipe
        total = steps(ladder.examples, recipe)
        rungs = {steps(rung.examples, recipe): rung for rung in ladder.rungs}
        every, began, first = 1, time.monotonic(), run.step
        pool = run.examples or self._task.pool(ladder.stage.pool)
        batches = order(len(pool), ladder.examples, recipe, ladder.stage.seed)
        above: deque[bool] = deque(maxlen=PATIENCE)
        for step, chosen in enumerate(batches):
            if step < run.step:
                continue
            loss = run.learn([pool[i] for i in chosen], learning_rate(step, total, recipe))
            above.append(loss > HOPELESS * math.log(run.vocabulary))
            if not math.isfinite(loss) or (len(above) == PATIENCE and all(above)):
                return (
                    f"diverged at step {step + 1} of {total}: loss {loss:g}, learning rate "
                    f"{recipe.learning_rate:g}; a lower learning_rate or a warm-up may help"
                )
            rung = rungs.get(step + 1)
            if rung is not None:
                error = self._agree(self._take(run, ladder, rung, rung.state_id in wanted))
                if error is not None:
                    return error
                self._done.append(rung.state_id)
                if self._rank == 0:
                    remove_older(self._results, ladder.id, run.step)
            if self._workers > 1 and step == first + 2:
                pace = (time.monotonic() - began) / 3
                every = int(self._agree(str(max(1, round(CHECK_EVERY / pace)))) or 1)
            if rung is not None or (step + 1) % every == 0:
                self.tell(self._progress(ladder, step + 1))
            if self.leaving and step + 1 < total:
                if rung is None:
                    self._pause(run, ladder)
                return None
        return None

    def _pause(self, run: Trainer, ladder: Ladder) -> None:
        """Note where to go on, between two snapshots; without it the last one will have to do."""
        recipe = ladder.stage.recipe
        passed = [r.state_id for r in ladder.rungs if steps(r.examples, recipe) <= run.step]
        try:
            run.save_point(passed[-1] if passed else ladder.parent_id, moved=True)
        except (ResultsError, OSError) as e:
            logging.getLogger(__name__).warning("no resume point: %s", e)

    def tell(self, words: Mapping[str, Any], at_once: bool = False) -> None:
        """Report what is done and failed since the last report, if that is a while ago."""
        due = at_once or time.monotonic() - self._reported > REPORT_EVERY
        if self._workers > 1 and not at_once:
            due = self._agree("due" if due and self._rank == 0 else None) is not None
        if due:
            # "done" would tell Tune that the trial is.
            failed = list(self._failed.items())
            said = {**words, "recorded": self._done, "failed": failed, "train_seconds": self._worked}
            self._report(said)
            self._done, self._failed, self._reported = [], {}, time.monotonic()
            self.leaving = self.leaving or self._noticed()

    def _progress(self, ladder: Ladder, step: int) -> dict[str, Any]:
        examples = min(ladder.examples, step * ladder.stage.recipe.global_batch)
        words = (
            f"training {ladder.stage.kind} {examples:,}/{ladder.examples:,} "
            f"from {ladder.parent_id[:8]} (seed {ladder.stage.seed})"
        )
        return {"ladder": ladder.id, "examples": examples, "message": words}

    def _take(self, run: Trainer, ladder: Ladder, rung: Rung, wanted: bool) -> str | None:
        """Save and record a rung; the error in words, if it cannot be."""
        try:
            weights = run.weights()
            if self._rank == 0 and wanted:
                snapshot.check_weights(weights, run.shapes)
                saved = run.save(rung.state_id, weights)
                if rung.state_id in self._job.remade:
                    self._results.restore_checkpoint(
                        rung.state_id, saved.checkpoint, saved.checksum
                    )
                else:
                    self._results.write("states", [run.row(rung, saved)])
            if rung is not ladder.rungs[-1]:
                run.save_point(rung.state_id, moved=False)
            elif self._rank == 0:
                remove_point(self._results, ladder.id)
        except (TrainingError, ResultsError, OSError) as e:
            text = str(e)
            return text if text.startswith("diverged") else f"{type(e).__name__}: {text}"
        return None

    def _agree(self, error: str | None) -> str | None:
        """The first rank's error, on every rank."""
        if self._workers == 1:
            return error
        import torch.distributed as dist

        said: list[str | None] = [None] * self._workers
        dist.all_gather_object(said, error)
        return next((each for each in said if each is not None), None)

    def _give_up(self, ladder: Ladder, error: str) -> None:
        """Record and report what is left of a ladder as failed."""
        for rung in ladder.rungs:
            row = self._results.state(rung.state_id)
            if row is not None and row["status"] == "done" and row["checkpoint"] is not None:
                continue
            self._failed[rung.state_id] = error
            if self._rank == 0 and (row is None or row["status"] == "failed"):
                provenance = Provenance(self._job.git_revision, versions(), trial=self._job.trial)
                failed = failed_row(self._job.planned_state(ladder, rung), error, provenance)
                # Where the disk is full, only the report can tell.
                with contextlib.suppress(ResultsError, OSError):
                    self._results.write("states", [failed])
        self.tell({})


def walk(config: Mapping[str, Any]) -> None:
    """The train function of each Ray Train worker: all ladders of the job, in order."""
    import deepspeed  # noqa: F401
    import ray.train
    import torch

    gc.freeze()  # the libraries: no collection after a ladder need walk them
    job: TrainJob = config["job"]
    torch.set_num_threads(math.ceil(job.runtime.cpus_per_worker))
    context = ray.train.get_context()
    climber = LadderTrainer(
        job,
        context.get_world_rank(),
        context.get_world_size(),
        lambda said: ray.train.report(said),
        lambda: ray.train.get_preemption_info() is not None,
    )
    for ladder in job.ladders:
        if not climber.leaving:
            climber.climb(ladder)
    climber.tell({"preempted": True} if climber.leaving else {}, at_once=True)
