"""Ray Tune runs the trials of a sweep; its searcher follows the graph of states.

A trial starts as soon as every state that it depends on is recorded, while the run that made such a
state may still go on. A failed state fails the states that would start from it, and no others. A
trial that crashed is tried once more, from its last resume point. What is done is read from the
results, never from Tune's own files.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ray import tune
from ray.tune import RunConfig, TuneConfig, Tuner
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from ..cluster.ray_cluster import departed_nodes
from ..plan import Trial, ladder_names
from ..progress.grid_rows import Failure
from ..progress.tracker import ProgressTracker
from .ready_queue import QueuedTrial, ReadyQueue
from .trainer_slots import TrainerSlots

MAX_TRIALS = 1024
"""Trials that Tune may run at a time; in effect no limit. The searcher limits them to the trainer
slots of the layout, whose number changes with the cluster, while Tune's limit is fixed."""
SILENT_AFTER = 180.0
"""Seconds without a report after which a trial is reported as slow. Trainers report twice a second,
but take up to a minute to start, and a large model takes long to load."""
TRIAL_RESOURCES: dict[str, float] = {"memory": 1}
"""What Tune reserves for a trial's own process, which only waits for its worker group. Tune needs
some resource; one byte of memory takes nothing from the workers."""


@dataclass
class _RunningTrial:
    """A trial that Tune runs now."""

    trial: Trial
    nodes: tuple[str, ...]
    """Ids of the nodes of its workers and, once reported, of its own process."""
    started: float = field(default_factory=time.monotonic)
    last_report: float | None = None
    """Time of the last report; None before the first, and once its silence has been reported."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds spent on its ladders by kind of work, start-up left out."""
    preempted: bool = False
    """Whether it stopped early because one of its nodes is being preempted."""
    crash: str | None = None
    """The error that ended its worker group."""
    ended: bool = False
    """Whether its worker group has finished the job, and can train another."""


class _NotPickled:
    """Makes copies of an object the object itself, and its pickle empty.

    Tune pickles its searcher and stopper to restore them later. These hold live state of this
    process and are never restored, because the results are the record.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return (object, ())


class TrialSearcher(_NotPickled, Searcher):
    """A searcher of Ray Tune that suggests the trials of a plan when they may start.

    Trials start in the order given, those that are tried again first. `record_failures` records
    failed states. `claim` claims the states of a trial for this driver; where another driver has
    claimed one of them it returns False, and the trial is postponed until `requeue_postponed`. Once
    `stopped` is set nothing is suggested any more.
    """

    def __init__(
        self,
        tracker: ProgressTracker,
        trials: Sequence[Trial],
        record_failures: Callable[[Sequence[Failure]], None],
        claim: Callable[[Sequence[str]], bool],
        slots: TrainerSlots,
    ) -> None:
        super().__init__()
        self._tracker, self._claim, self._slots = tracker, claim, slots
        self._record_failures = record_failures
        self._queue = ReadyQueue(trials, tracker.settled)
        self._ladders = {ladder.id: ladder for ladder in tracker.plan.ladders}
        self._names = ladder_names(tracker.plan)
        self._running: dict[str, _RunningTrial] = {}
        """By Tune's id of the trial."""
        self.stopped = threading.Event()
        # Listen before the first check, so that no change is missed in between.
        tracker.listen(lambda event, state: self._queue.update(state))
        self._queue.update_all()

    # Tune documents FINISHED, a string, as a return value; its annotation omits it.
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """Return the config of the next trial, for `trial_worker.trial_trainable`.

        Returns None while no trial is ready or no trainer slot is free, and `FINISHED` when none
        will follow.
        """
        while not self.stopped.is_set():
            queued = self._next_unfinished()
            if queued is None:
                finished = self._queue.exhausted and not self._running
                return self._finish() if finished else None
            slot = self._slots.acquire(trial_id)
            if slot is None:
                self._queue.put_back(queued)
                return None
            trial = queued.trial
            # Claiming may be slow (a remote store), so no lock is held meanwhile: the driver's
            # event loop takes the queue's lock too.
            if self._claim([rung.state_id for lad in trial.ladders for rung in lad.rungs]):
                self._running[trial_id] = _RunningTrial(trial, slot.nodes)
                return {
                    "trial": trial.name,
                    "task": trial.task,
                    "ladders": [ladder.id for ladder in trial.ladders],
                    "nodes": list(slot.nodes),
                    "group": slot.group,
                }
            self._slots.release(trial_id, reusable=True)
            self._queue.postpone(queued)
        return self._finish()

    def _finish(self) -> str:
        """Return what tells Tune that no trial will follow; end the idle worker groups."""
        self._slots.close_idle()
        return str(self.FINISHED)

    def _next_unfinished(self) -> QueuedTrial | None:
        """Return the next trial that is ready, with the ladders that are still to train."""
        while (queued := self._queue.pop()) is not None:
            if remaining := self._remaining(queued.trial):
                return queued._replace(trial=remaining)
        return None

    def _remaining(self, trial: Trial) -> Trial | None:
        """Return the trial without the ladders that are finished; None if all are."""
        ladders = tuple(lad for lad in trial.ladders if not self._tracker.finished(lad))
        return replace(trial, ladders=ladders) if ladders else None

    @property
    def idle(self) -> bool:
        """Whether no trial runs or is ready."""
        return not self._running and not len(self._queue)

    @property
    def waiting(self) -> int:
        """The number of trials that are ready, but wait for a trainer slot."""
        return len(self._queue)

    def requeue_postponed(self) -> None:
        """Let trials start that were postponed because another driver computed their states."""
        self._queue.requeue_postponed()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Take a report of a trial: a `training.job.WorkerReport`, or its node or crash."""
        running = self._running.get(trial_id)
        if running is None:
            return
        running.last_report = time.monotonic()
        if "crash" in result:
            running.crash = str(result["crash"])
        if "node" in result:
            running.nodes += (str(result["node"]),)
            return
        running.preempted = running.preempted or "preempted" in result
        running.ended = running.ended or "ended" in result
        running.seconds = dict(result.get("seconds", {}))
        for state in result.get("recorded", ()):
            self._tracker.state_done(state)
        for state, error in result.get("failed", ()):
            self._fail(state, error, recorded=True)
        if "ladder" in result:
            ladder, examples = self._ladders[result["ladder"]], int(result["examples"])
            self._tracker.ladder_advanced(ladder.id, examples)
            text = f"{self._names[ladder.id]}, {examples:,} of {ladder.examples:,} examples"
            self._tracker.activity.set(f"train {trial_id}", text)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Free the trial's slot; try it again, or fail its states, where ladders are left."""
        running = self._running.pop(trial_id, None)
        reusable = running is not None and running.ended and not running.preempted
        self._slots.release(trial_id, reusable)
        self._tracker.activity.clear(f"train {trial_id}")
        if running is None:
            return
        seconds = time.monotonic() - running.started
        starting = max(0.0, seconds - sum(running.seconds.values()))
        for kind, took in {**running.seconds, "start trainers": starting}.items():
            self._tracker.activity.add_seconds(kind, took)
        remaining = self._remaining(running.trial)
        if remaining is None or self.stopped.is_set():
            return
        lost = departed_nodes(running.nodes) if running.nodes else set()
        # The driver adapts the layout only at its next check; no trial may go there until then.
        self._slots.exclude(lost)
        crashed = not lost and not running.preempted
        if self._queue.retry(remaining, counts=crashed):
            return
        attempts = self._queue.attempts(remaining)
        reason = running.crash or "its worker process ended without an error message"
        for ladder in remaining.ladders:
            for rung in ladder.rungs:
                if not self._tracker.settled(rung.state_id):
                    message = f"training crashed {attempts} times: {reason}"
                    self._fail(rung.state_id, message, recorded=False)

    def silent_trials(self) -> list[str]:
        """Return a message per trial that has not reported for `SILENT_AFTER` seconds.

        Each silence is reported once.
        """
        messages = []
        for running in list(self._running.values()):
            if running.last_report is None:
                continue
            seconds = time.monotonic() - running.last_report
            if seconds > SILENT_AFTER:
                running.last_report = None
                messages.append(
                    f"slow: trial {running.trial.name} has reported no step for {seconds:.0f} s"
                )
        return messages

    def _fail(self, state: str, error: str, recorded: bool) -> None:
        """Mark a state and its descendants failed, and record those that are not `recorded`."""
        descendants = self._tracker.state_failed(state, error)
        failures = [] if recorded else [Failure(state, error)]
        failures += [Failure(each, self._tracker.failed[each]) for each in descendants]
        self._record_failures(failures)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the results are the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the results are the record."""


class _StopWithSearcher(_NotPickled, Stopper):
    """Stops all trials once the searcher is stopped."""

    def __init__(self, searcher: TrialSearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._searcher.stopped.is_set()


def run_trials(searcher: TrialSearcher, trainable: Callable[[dict[str, Any]], None]) -> None:
    """Run trials until the searcher has no more of them, or `searcher.stopped` is set.

    `trainable` is called with each suggested config in a process of its own, and reports what
    `TrialSearcher.on_trial_result` takes. Blocks; may run in a thread.
    """
    # Tune's log files of each trial would be deleted with the scratch folder, so write none.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    with tempfile.TemporaryDirectory(prefix="elastic_ray-tune-") as scratch:
        Tuner(
            tune.with_resources(trainable, TRIAL_RESOURCES),
            tune_config=TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=MAX_TRIALS,
                reuse_actors=True,  # starting a process takes seconds
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=RunConfig(
                name="trials", storage_path=scratch, stop=_StopWithSearcher(searcher), verbose=0
            ),
        ).fit()
