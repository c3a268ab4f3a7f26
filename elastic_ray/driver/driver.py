"""Runs a plan on the Ray cluster that this process has joined: what the sweep command becomes.

Four things go on side by side: start states and scorers are made (`setup_jobs`), ladders train
under Ray Tune (`schedule`), done states are evaluated (`evaluation`), and the cluster's nodes are
watched (`membership`), with periodic work beside them (`housekeeping`). The record is the only
memory: stopped at any moment and started again, a sweep goes on where the record ends.
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

from ..cluster.ray_cluster import staying_nodes
from ..evaluation.evaluator import Evaluator
from ..evaluation.inference import InferenceRunner
from ..evaluation.prompts import code_length_texts, evaluation_prompts
from ..evaluation.scoring import ScoringRunner
from ..placement import allocate
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
from ..serving.fleet import Fleet
from ..serving.reaper import start_reaper
from ..tasks.task import Task
from .checkpoint_cleanup import CheckpointCleanup
from .coordination import StateCoordinator
from .housekeeping import Housekeeping
from .membership import ClusterMembership
from .metrics import Metrics
from .progress_display import ProgressDisplay
from .setup_jobs import SetupJobs


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
    left: Outstanding,
    tracker: ProgressTracker,
    stream: TextIO,
    lease: SweepLease,
    budget: Budget,
) -> Outcome:
    """Run what is left of the plan; return when all of it is recorded or failed, or it is stopped.

    `loaded` holds the tasks by name. `lease` is the sweep's and must be held as long as this runs.
    Progress is shown on `stream`. The run stops early on SIGINT or SIGTERM, or when `budget` is
    used up. Raises what keeps the run as a whole from going on, such as `SpecError` where the
    sweep does not fit on the cluster; what fails in a state or request is recorded instead.
    """
    coordinator = StateCoordinator(results, lease, tracker, left.remade)
    driver = _SweepDriver(plan, loaded, results, left, tracker, stream, coordinator, budget)
    return asyncio.run(driver.run())


class _SweepDriver:
    def __init__(
        self,
        plan: Plan,
        loaded: Mapping[str, Task],
        results: Results,
        left: Outstanding,
        tracker: ProgressTracker,
        stream: TextIO,
        coordinator: StateCoordinator,
        budget: Budget,
    ) -> None:
        self._plan, self._loaded, self._results = plan, loaded, results
        self._left, self._tracker, self._budget = left, tracker, budget
        self._open = [request for request in plan.requests() if request not in tracker.closed]
        nodes = staying_nodes()
        allocation = allocate(plan, loaded, nodes, open_requests=self._open)
        layout, self._gpu_hours = allocation.layout, allocation.gpu_hours
        seconds = dict(allocation.ladder_seconds)
        self._trials = bundle(left.ladders, lambda ladder: seconds[ladder.id], layout.trainers)
        gpus = layout.needs.worker.gpus
        self._runtime = allocation.runtime.model_copy(update={"gpus_per_worker": gpus})
        self._display = ProgressDisplay(
            stream, tracker, seconds, allocation.request_seconds, layout.trainers
        )
        self._slots = TrainerSlots(layout.trainer_slots)
        self._searcher = TrialSearcher(
            tracker,
            self._trials,
            partial(record_failures, results, plan),
            coordinator.claim,
            self._slots,
        )
        self._cleanup = CheckpointCleanup(plan, tracker, results, coordinator)
        self._fleet = Fleet(start_reaper())
        self._setup = SetupJobs(plan, results, tracker, coordinator, self._display.notify)
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
        self._interrupted = False

    async def run(self) -> Outcome:
        """Run until the work ends, and keep the user informed meanwhile."""
        began = time.monotonic()
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
        return Outcome(self._tracker, self._interrupted, time.monotonic() - began)

    def _on_signal(self) -> None:
        if self._interrupted:
            os._exit(130)  # the user insists; what is recorded stays
        self._stop("stopping: what is recorded stays; press Ctrl-C again to exit at once")

    def _stop(self, message: str) -> None:
        if not self._interrupted:
            self._interrupted = True
            self._display.notify(message)
            self._searcher.stopped.set()
            self._work.cancel()

    def _waiting(self) -> tuple[int, int]:
        """Return how many trials wait for a trainer, and how many requests for an engine."""
        return self._searcher.waiting, self._evaluator.waiting if self._evaluator else 0

    def _reserved(self) -> Amount:
        """Return what trainers, engines and scorers reserve now."""
        needs = self._membership.layout.needs
        return reserved_resources(needs, self._slots.held, self._fleet.replicas)

    async def _run_plan(self) -> None:
        """Make starts, train and evaluate, side by side; stop everything at the end."""
        evaluator = self._evaluator = await self._make_evaluator()
        await self._membership.place_scorers()
        watching = asyncio.ensure_future(self._membership.watch(evaluator))
        training = asyncio.ensure_future(asyncio.to_thread(self._train))

        async def trained() -> None:
            await training

        try:
            async with asyncio.TaskGroup() as group:
                for start in self._left.starts:
                    group.create_task(self._setup.make_start(start))
                group.create_task(evaluator.run())
                group.create_task(trained())
        finally:
            watching.cancel()
            self._searcher.stopped.set()
            with contextlib.suppress(Exception):
                await asyncio.shield(training)
            await self._fleet.shut_down()
        if message := self._cleanup.delete_remaining():
            self._display.notify(message)

    async def _make_evaluator(self) -> Evaluator:
        layout, notify = self._membership.layout, self._display.notify
        scorers = {
            task: asyncio.ensure_future(self._setup.make_scorer(task, layout))
            for task in self._tasks_to_score()
        }
        prompts = evaluation_prompts(self._plan, self._loaded)
        texts = code_length_texts(self._plan, self._loaded)
        # Answers that cost GPU time are worth waiting for a store that does not respond.
        patient = await asyncio.to_thread(Results, self._results.uri, patient=True)
        shared = (self._plan, patient, self._tracker, self._fleet)
        return Evaluator(
            self._plan,
            self._tracker,
            layout,
            InferenceRunner(*shared, layout, prompts, texts, notify),
            ScoringRunner(*shared, scorers, self._loaded, notify),
        )

    def _tasks_to_score(self) -> list[str]:
        """Return the tasks with open requests whose answers are to be scored."""
        scored = {name for name, probe in self._plan.probes.items() if probe.scorer}
        return sorted(scored & {each.task for each in self._open if each.kind == ANSWERS})

    def _train(self) -> None:
        """Train all trials that are left; blocks, so it runs in a thread."""
        if self._trials:
            jobs = train_jobs(
                self._plan,
                self._trials,
                self._left.ladders,
                self._runtime,
                self._results.uri,
                self._left.remade,
            )
            run_trials(self._searcher, trial_trainable(jobs))
