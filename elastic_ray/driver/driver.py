"""Runs a plan on a Ray cluster: the process that the sweep command becomes.

It joins a running cluster or starts Ray on this machine, divides what the cluster has (see
`capacity`), and lets four things go on side by side: start states and scorers are made, Tune
trains ladders, the prober asks and scores, the screen shows it. What is recorded is the only
memory: stopped at any moment and started again, it goes on where the record ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from ..cluster.ray_cluster import staying_nodes
from ..evaluation.evaluator import Evaluator
from ..evaluation.inference import InferenceRunner
from ..evaluation.prompts import code_length_texts, evaluation_prompts
from ..evaluation.scoring import ScoringRunner
from ..placement import (
    Node,
    adapt,
    allocate,
    count_by_node,
)
from ..plan import ANSWERS, Plan, bundle
from ..progress.budget import Amount, Budget, gpu_limit_notice, reserved_resources
from ..progress.grid_rows import Failure, cell_rows, lesson_rows
from ..progress.outstanding import Outstanding
from ..progress.tracker import ProgressTracker
from ..results.compaction import compact
from ..results.errors import ResultsError
from ..results.leases.sweep_lease import SweepLease
from ..results.state_rows import PlannedState, failed_row
from ..results.store import Results
from ..schedule.jobs import train_jobs
from ..schedule.trainer_slots import TrainerSlots
from ..schedule.trial_worker import trial_trainable
from ..schedule.tune_search import TrialSearcher, run_trials
from ..serving.errors import error_summary
from ..serving.fleet import Fleet
from ..serving.reaper import start_reaper
from ..serving.types import ScorerConfig
from ..tasks.task import Task
from .checkpoint_cleanup import CheckpointCleanup
from .coordination import LOOK, StateCoordinator
from .metrics import Metrics
from .progress_display import ProgressDisplay
from .setup_jobs import make_scorer, make_start

CELLS_EVERY = 30.0
"""Seconds between updates of the `cells` table while a sweep runs."""
LOOK_EVERY = 5.0
"""Seconds between looks at the cluster's nodes: some clouds give half a minute's notice."""
COMPACT_EVERY = 300.0
"""Seconds between looks for small files to gather."""


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended: the board, whether it was stopped, and seconds by kind of work."""

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
    """Run what is left of the plan; returns when all of it is recorded, failed, or stopped.

    `lease` is the sweep's, held as long as this runs. Once `budget` is used up this stops too.
    """
    sharing = StateCoordinator(results, lease, tracker, left.remade)
    return asyncio.run(_Drive(plan, loaded, results, left, tracker, stream, sharing, budget).run())


class _Drive:
    def __init__(
        self,
        plan: Plan,
        loaded: Mapping[str, Task],
        results: Results,
        left: Outstanding,
        tracker: ProgressTracker,
        stream: TextIO,
        sharing: StateCoordinator,
        budget: Budget,
    ) -> None:
        self.plan, self.loaded, self.results = plan, loaded, results
        self.left, self.tracker, self.sharing, self.budget = left, tracker, sharing, budget
        self.open = [request for request in plan.requests() if request not in tracker.closed]
        self.nodes = staying_nodes()
        allocation = allocate(plan, loaded, self.nodes, open_requests=self.open)
        self.work, self.runtime = allocation.workload, allocation.runtime
        self.layout, self.gpu_hours = allocation.layout, allocation.gpu_hours
        cost = dict(allocation.ladder_seconds)
        self.trials = bundle(left.ladders, lambda lad: cost[lad.id], self.layout.trainers)
        self.display = ProgressDisplay(
            stream, tracker, cost, allocation.request_seconds, self.layout.trainers
        )
        self.slots = TrainerSlots(self.layout.trainer_slots)
        self.release = TrialSearcher(
            tracker, self.trials, self._record_failures, sharing.take, self.slots
        )
        self.tidying = CheckpointCleanup(plan, tracker, results, sharing)
        self.fleet = Fleet(start_reaper())
        self.evaluator: Evaluator | None = None
        self.metrics = Metrics(tracker, self.gpu_hours)
        self._interrupted = self._unanswered = False

    async def run(self) -> Outcome:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, self._interrupt)
        self._write_cells()
        self._work = asyncio.ensure_future(self._all())
        ticking = asyncio.ensure_future(self._tick())
        counting = asyncio.ensure_future(self.budget.count(self._held, self._stop))
        measuring = asyncio.ensure_future(self.metrics.keep_up(self._waiting, self.budget))
        self.display.start()
        if notice := gpu_limit_notice(self.plan.spec.resources, self.layout.needs):
            self.display.say(notice)
        elif self.plan.spec.resources.max_gpu_hours and self.gpu_hours:
            self.display.say(f"all of the sweep is estimated at {self.gpu_hours:.2g} GPU-hours")
        try:
            await self._work
        except asyncio.CancelledError:
            if not self._interrupted:
                raise
        finally:
            ticking.cancel()
            counting.cancel()
            measuring.cancel()
            self.display.stop()
            self._write_cells()
            for name in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(name)
        return Outcome(self.tracker, self._interrupted, time.monotonic() - began)

    def _interrupt(self) -> None:
        if self._interrupted:
            os._exit(130)  # asked twice: at once, the record stands
        self._stop("stopping; what is recorded stays (press Ctrl-C again to leave at once)")

    def _stop(self, words: str) -> None:
        if not self._interrupted:
            self._interrupted = True
            self.display.say(words)
            self.release.stopped.set()
            self._work.cancel()

    def _waiting(self) -> tuple[int, int]:
        return self.release.waiting, self.evaluator.waiting if self.evaluator else 0

    def _held(self) -> Amount:
        return reserved_resources(self.layout.needs, self.slots.held, self.fleet.replicas)

    async def _all(self) -> None:
        fleet = self.fleet
        scorers = {task: asyncio.ensure_future(self._scorer(task)) for task in self._to_score()}
        prompts = evaluation_prompts(self.plan, self.loaded)
        patient = await asyncio.to_thread(Results, self.results.uri, patient=True)
        shared = (self.plan, patient, self.tracker, fleet)
        evaluator = self.evaluator = Evaluator(
            self.plan,
            self.tracker,
            self.layout,
            InferenceRunner(
                *shared, self.layout, prompts, code_length_texts(self.plan, self.loaded), self.display.say
            ),
            ScoringRunner(*shared, scorers, self.loaded, self.display.say),
        )
        await self._place_scorers(fleet)
        watching = asyncio.ensure_future(self._watch(evaluator, fleet))
        trial_trainable = asyncio.ensure_future(asyncio.to_thread(self._train))
        try:
            async with asyncio.TaskGroup() as group:
                for start in self.left.starts:
                    group.create_task(self._start(start))
                group.create_task(evaluator.run())
                group.create_task(_await(trial_trainable))
        finally:
            watching.cancel()
            self.release.stopped.set()
            with contextlib.suppress(Exception):
                await asyncio.shield(trial_trainable)
            await fleet.shut_down()
        if left := self.tidying.rest():
            self.display.say(left)

    async def _watch(self, evaluator: Evaluator, fleet: Fleet) -> None:
        """Look now and then what is slow, and which nodes came or went, and lay out what is free
        anew."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for words in (*fleet.stragglers.new_reports(), *self.release.silent_trials()):
                self.display.say(words)
            try:
                nodes = await asyncio.to_thread(staying_nodes)
                if nodes != self.nodes:
                    await self._adapt(nodes, evaluator, fleet)
            except Exception as e:  # what runs goes on; the next look may succeed
                self.display.say(
                    f"the cluster's nodes cannot be counted on anew: {error_summary(e)}"
                )

    async def _adapt(self, nodes: tuple[Node, ...], evaluator: Evaluator, fleet: Fleet) -> None:
        before = {node.name for node in self.nodes}
        now = {node.name for node in nodes}
        self.layout = adapt(self.layout, nodes, self.plan.spec.resources, self.work)
        self.slots.replace(self.layout.trainer_slots)
        self.display.trainers(self.layout.trainers)
        engines = sum(len(slot.replicas) for slot in self.layout.engine_slots)
        self.display.say(
            f"nodes: {len(now - before)} came, {len(before - now)} went, {len(now)} are there; "
            f"room for {self.layout.trainers} trainer(s) and {engines} engine(s) now"
            + ("" if self.layout.trainers and engines else "; waiting for nodes")
        )
        await evaluator.use_layout(self.layout)
        await self._place_scorers(fleet)
        self.nodes = nodes  # last: what failed above is tried again at the next look

    async def _place_scorers(self, fleet: Fleet) -> None:
        for name, places in self.layout.scorer_places.items():
            for problem in await fleet.place(name, count_by_node(places)):
                self.display.say(problem)

    def _to_score(self) -> list[str]:
        """The tasks with answers that are to be scored."""
        judged = {name for name, probe in self.plan.probes.items() if probe.scorer}
        return sorted(judged & {asked.task for asked in self.open if asked.kind == ANSWERS})

    def _train(self) -> None:
        if self.trials:
            worker = {"gpus_per_worker": self.layout.needs.worker.gpus}
            jobs = train_jobs(
                self.plan,
                self.trials,
                self.left.ladders,
                self.runtime.model_copy(update=worker),
                self.results.uri,
                self.left.remade,
            )
            run_trials(self.release, trial_trainable(jobs))

    async def _start(self, state: str) -> None:
        try:
            async with self._claimed(state):
                await make_start(self.plan, self.results, self.tracker, state)
        except Exception as e:
            fell = self.tracker.state_failed(state, error_summary(e))
            failed = [Failure(each, self.tracker.failed[each]) for each in (state, *fell)]
            self._record_failures(failed)
        else:
            self.tracker.state_done(state)

    async def _scorer(self, task: str) -> tuple[ScorerConfig, float | None]:
        async with self._claimed(self.plan.probes[task].scorer):
            config, accuracy = await make_scorer(
                self.plan, self.results, self.tracker, self.layout, task
            )
        if accuracy is not None:
            self.display.say(f"scorer {config.name}: held-out accuracy {accuracy:.3f}")
        return config, accuracy

    @contextlib.asynccontextmanager
    async def _claimed(self, name: str) -> AsyncIterator[None]:
        """This driver alone makes what is called that; what another made is found on record."""
        while not await asyncio.to_thread(self.sharing.take, [name]):
            await asyncio.sleep(LOOK)
        try:
            yield
        finally:
            await asyncio.to_thread(self.sharing.free, [name])

    async def _tick(self) -> None:
        written = compacted = looked = time.monotonic()
        while True:
            self.display.refresh()
            if time.monotonic() - looked > LOOK:
                looked = time.monotonic()
                await self._look()
            if time.monotonic() - written > CELLS_EVERY:
                written = time.monotonic()
                with contextlib.suppress(ResultsError):  # said when it matters: at the end
                    await asyncio.to_thread(self._write_cells)
                    await asyncio.to_thread(self.budget.record)
            if time.monotonic() - compacted > COMPACT_EVERY:
                compacted = time.monotonic()
                await asyncio.to_thread(self._compact)
            await asyncio.sleep(0.5)

    async def _look(self) -> None:
        """See what others have recorded, and say so once where the results do not answer."""
        try:
            await asyncio.to_thread(self.sharing.look, self.release.requeue_postponed)
        except (ResultsError, OSError) as e:  # asked again at the next look
            if not self._unanswered:
                self.display.say(f"the results do not answer, what needs them waits: {e}")
            self._unanswered = True
        else:
            if self._unanswered:
                self.display.say("the results answer again")
            self._unanswered = False

    def _compact(self) -> None:
        """Gather small files; a remote store has no lock, so there it is left to a person."""
        if self.results.folder.local is None:
            return
        try:
            compact(self.results)
        except (ResultsError, OSError) as e:
            self.display.say(f"small files stay as they are for now: {e}")

    def _write_cells(self) -> None:
        self.results.replace("cells", self.plan.spec.sweep, cell_rows(self.plan, self.tracker))
        if self.plan.lessons:
            self.results.replace(
                "lessons", self.plan.spec.sweep, lesson_rows(self.plan, self.tracker)
            )

    def _record_failures(self, failures: Sequence[Failure]) -> None:
        for failure in failures:
            node = self.plan.states[failure.state_id]
            planned = PlannedState(
                state_id=failure.state_id,
                parent_id=node.parent_id,
                kind=node.stage.kind if node.stage else "start",
                examples=node.examples,
                lineage=self.plan.lineage(failure.state_id),
                sweep=self.plan.spec.sweep,
            )
            # A disk that is full cannot take the row either; the cells say it at the end.
            with contextlib.suppress(ResultsError):
                self.results.write("states", [failed_row(planned, failure.error)])


async def _await(future: asyncio.Future[Any]) -> None:
    await future
