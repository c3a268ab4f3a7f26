"""The driver of the sweep command: runs a plan on the Ray cluster that this process has joined.

Five activities run concurrently:

- `setup_jobs` makes start states and scorers
- `schedule` trains ladders under Ray Tune
- `evaluation` evaluates states once they are done
- `membership` watches the cluster's nodes
- `housekeeping` does periodic work

All progress is recorded in the results, and the driver keeps no other state. A sweep can therefore
be stopped at any time; when it is restarted, it continues from the recorded progress.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TextIO

from ..cluster.ray_cluster import room_notice, staying_nodes
from ..evaluation.evaluator import Evaluator
from ..evaluation.inference import InferenceRunner
from ..evaluation.prompts import code_length_texts, evaluation_prompts
from ..evaluation.scoring import MadeScorer, ScoringRunner
from ..placement import SETUP_CPUS, allocate
from ..plan import ANSWERS, Plan, bundle
from ..progress.budget import Amount, Budget, gpu_limit_notice, reserved_resources
from ..progress.grid_rows import record_failures
from ..progress.outstanding import Outstanding
from ..progress.tracker import ProgressTracker
from ..results.leases.sweep_lease import SweepLease
from ..results.store import Results
from ..schedule.jobs import train_jobs
from ..schedule.trainer_slots import TrainerSlots
from ..schedule.trial_worker import trial_trainable
from ..schedule.tune_search import TrialSearcher, run_trials
from ..schedule.worker_groups import WorkerGroups
from ..serving.fleet import Fleet
from ..serving.reaper import start_reaper
from ..serving.start_queue import StartQueue, starts_at_once
from ..tasks.task import Task
from .checkpoint_cleanup import CheckpointCleanup
from .coordination import StateCoordinator
from .housekeeping import Housekeeping
from .membership import ClusterMembership
from .metrics import Metrics
from .progress_display import ProgressDisplay
from .setup_jobs import SetupJobs
from .turns import Turns


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its progress, whether it was stopped early, and its duration in seconds."""

    tracker: ProgressTracker
    interrupted: bool
    seconds: float


def drive(
    plan: Plan,
    loaded: Mapping[str, Task],
    results: Results,
    outstanding: Outstanding,
    tracker: ProgressTracker,
    stream: TextIO,
    lease: SweepLease,
    budget: Budget,
) -> Outcome:
    """Run the outstanding work of the plan until all of it is recorded or failed.

    `loaded` maps task names to tasks. `outstanding` is the work that is left. `lease` is the
    sweep's lease; the caller must hold it until this returns. Progress is shown on `stream`. The
    run stops early on SIGINT or SIGTERM, or when `budget` is used up.

    Errors that stop the whole run are raised, such as `SpecError` if the sweep does not fit on the
    cluster. The failure of a single state or request is recorded instead.
    """
    coordinator = StateCoordinator(results, lease, tracker, outstanding.remade)
    driver = _SweepDriver(plan, loaded, results, outstanding, tracker, stream, coordinator, budget)
    return asyncio.run(driver.run())


class _SweepDriver:
    def __init__(
        self,
        plan: Plan,
        loaded: Mapping[str, Task],
        results: Results,
        outstanding: Outstanding,
        tracker: ProgressTracker,
        stream: TextIO,
        coordinator: StateCoordinator,
        budget: Budget,
    ) -> None:
        self._plan, self._loaded, self._results = plan, loaded, results
        self._outstanding, self._tracker, self._budget = outstanding, tracker, budget
        self._open = [request for request in plan.requests() if request not in tracker.closed]
        nodes = staying_nodes()
        allocation = allocate(plan, loaded, nodes, open_requests=self._open)
        layout, self._gpu_hours = allocation.layout, allocation.gpu_hours
        seconds = dict(allocation.ladder_seconds)
        self._trials = bundle(
            outstanding.ladders, lambda ladder: seconds[ladder.id], layout.trainers
        )
        gpus = layout.needs.worker.gpus
        self._runtime = allocation.runtime.model_copy(update={"gpus_per_worker": gpus})
        self._runtimes = allocation.runtimes
        self._display = ProgressDisplay(
            stream,
            tracker,
            seconds,
            allocation.request_seconds,
            allocation.wall_clock.total,
            layout.trainers,
        )
        self._slots = TrainerSlots(layout.trainer_slots, WorkerGroups(self._runtime))
        self._searcher = TrialSearcher(
            tracker,
            self._trials,
            partial(record_failures, results, plan),
            coordinator.claim,
            self._slots,
        )
        self._cleanup = CheckpointCleanup(plan, tracker, results, coordinator)
        queue = StartQueue(starts_at_once(layout, nodes))
        self._fleet = Fleet(start_reaper(), queue)
        self._setup = SetupJobs(plan, results, tracker, coordinator, queue, self._display.notify)
        self._membership = ClusterMembership(
            nodes,
            layout,
            plan.spec.resources,
            allocation.workload,
            self._slots,
            self._fleet,
            self._display,
        )
        self._housekeeping = Housekeeping(
            plan,
            results,
            tracker,
            coordinator,
            budget,
            self._display,
            lambda: [*self._fleet.stragglers.new_reports(), *self._searcher.silent_trials()],
            self._searcher.requeue_postponed,
        )
        self._metrics = Metrics(tracker, self._gpu_hours)
        self._evaluator: Evaluator | None = None
        self._scorers: dict[str, asyncio.Future[MadeScorer]] = {}
        self._interrupted = False

    async def run(self) -> Outcome:
        """Run until the work ends, and show its progress to the user."""
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, self._on_signal)
        self._housekeeping.write_grid_rows()
        self._work = asyncio.ensure_future(self._run_plan())
        background = [
            asyncio.ensure_future(self._housekeeping.run()),
            asyncio.ensure_future(self._budget.count(self._reserved, self._stop)),
            asyncio.ensure_future(self._metrics.keep_up(self._waiting, self._budget)),
        ]
        self._display.start()
        needs = self._membership.layout.needs
        room = (needs.worker.cpus, needs.worker.gpus) if self._trials else (SETUP_CPUS, 0.0)
        if notice := await asyncio.to_thread(room_notice, *room):
            self._display.notify(notice)
        if notice := gpu_limit_notice(self._plan.spec.resources, self._membership.layout.needs):
            self._display.notify(notice)
        elif self._plan.spec.resources.max_gpu_hours and self._gpu_hours:
            hours = f"{self._gpu_hours:.2g}"
            self._display.notify(f"the whole sweep is estimated at {hours} GPU-hours")
        try:
            await self._work
        except asyncio.CancelledError:
            if not self._interrupted:
                raise
        finally:
            for task in background:
                task.cancel()
            self._display.stop()
            self._housekeeping.write_grid_rows()
            for name in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(name)
        return Outcome(self._tracker, self._interrupted, time.monotonic() - started)

    def _on_signal(self) -> None:
        if self._interrupted:
            os._exit(130)  # second signal: exit at once; recorded results are kept
        self._stop("stopping; recorded results are kept; press Ctrl-C again to exit at once")

    def _stop(self, message: str) -> None:
        if not self._interrupted:
            self._interrupted = True
            self._display.notify(message)
            self._searcher.stopped.set()
            self._work.cancel()

    def _waiting(self) -> tuple[int, int]:
        """Return the number of trials waiting for a trainer, and of requests for an engine."""
        return self._searcher.waiting, self._evaluator.waiting if self._evaluator else 0

    def _reserved(self) -> Amount:
        """Return the resources that trainers, engines and scorers reserve now."""
        needs = self._membership.layout.needs
        return reserved_resources(needs, self._slots.living, self._fleet.replicas)

    async def _run_plan(self) -> None:
        """Make start states, train and evaluate concurrently; stop everything at the end."""
        self._slots.start_ahead(self._trials_that_need_starts_only())
        evaluator = self._evaluator = await self._make_evaluator()
        await self._membership.place_scorers()
        turns = Turns(self._membership, self._searcher, evaluator, self._display.notify)
        background = [
            asyncio.ensure_future(self._membership.watch(evaluator)),
            asyncio.ensure_future(turns.alternate()),
        ]
        training: asyncio.Future[None] | None = None

        async def trained() -> None:
            nonlocal training
            for task, made in self._scorers.items():
                # A scorer that knows nothing makes every answer worthless.
                await self._setup.scorer_is_good(task, made)
            training = asyncio.ensure_future(asyncio.to_thread(self._train))
            await training

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._setup.make_starts(self._outstanding.starts))
                group.create_task(evaluator.run())
                group.create_task(trained())
        finally:
            for each in background:
                each.cancel()
            self._searcher.stopped.set()
            if training is not None:
                with contextlib.suppress(Exception):
                    await asyncio.shield(training)
            self._slots.end()
            await self._fleet.shut_down()
        if message := self._cleanup.delete_remaining():
            self._display.notify(message)

    def _trials_that_need_starts_only(self) -> int:
        """Return the number of trials that can train as soon as the start states are made."""
        starts = set(self._outstanding.starts)
        return sum(
            all(need in starts or self._tracker.settled(need) for need in trial.needs)
            for trial in self._trials
        )

    async def _make_evaluator(self) -> Evaluator:
        layout, notify = self._membership.layout, self._display.notify
        scorers = self._scorers = {
            task: asyncio.ensure_future(self._setup.make_scorer(task, layout))
            for task in self._tasks_to_score()
        }
        prompts = evaluation_prompts(self._plan, self._loaded)
        texts = code_length_texts(self._plan, self._loaded)
        # Answers cost GPU time, so a store that does not respond is retried for longer.
        patient = await asyncio.to_thread(Results, self._results.uri, patient=True)
        shared = (self._plan, patient, self._tracker, self._fleet)
        return Evaluator(
            self._plan,
            self._tracker,
            self._membership.in_force,
            InferenceRunner(*shared, layout, prompts, texts, notify),
            ScoringRunner(*shared, scorers, self._loaded, notify),
        )

    def _tasks_to_score(self) -> list[str]:
        """Return the tasks with open requests whose answers need a scorer."""
        scored = {name for name, probe in self._plan.probes.items() if probe.scorer}
        return sorted(scored & {each.task for each in self._open if each.kind == ANSWERS})

    def _train(self) -> None:
        """Train all outstanding trials. Blocks, so it runs in a thread."""
        if self._trials:
            jobs = train_jobs(
                self._plan,
                self._trials,
                self._outstanding.ladders,
                self._runtime,
                self._runtimes,
                self._results.uri,
                self._outstanding.remade,
            )
            try:
                run_trials(self._searcher, trial_trainable(jobs))
            finally:
                self._slots.end()
