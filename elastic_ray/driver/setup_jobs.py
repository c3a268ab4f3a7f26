"""Makes what must exist before anything trains or is scored: start states, and tasks' own scorers.

Both are made once, by short Ray tasks on any node with room; what is recorded already is used as
it is. A claim keeps other drivers on the same results from making the same at the same time.

Random models are initialised one after the other, and a scorer is trained after them: Ray then runs
all of this in one process, which imports torch and transformers once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import ray

from ..elasticity import accuracy_interval, better_than_chance
from ..placement import SETUP_CPUS, Layout, memory_share
from ..plan import Plan, settings_of
from ..progress.grid_rows import Failure, record_failures
from ..progress.tracker import ProgressTracker
from ..results.store import Results
from ..serving.errors import error_summary
from ..serving.start_queue import StartQueue
from ..serving.types import ScorerConfig
from ..spec import SpecError
from ..training.provenance import git_revision
from .coordination import POLL_EVERY, StateCoordinator


class SetupJobs:
    """Makes the start states and scorers of one plan; `notify` takes messages for the user.

    `make_starts` must be called, also without any start to make: scorers are trained after it.
    """

    def __init__(
        self,
        plan: Plan,
        results: Results,
        tracker: ProgressTracker,
        coordinator: StateCoordinator,
        queue: StartQueue,
        notify: Callable[[str], None],
    ) -> None:
        self._plan, self._results, self._tracker = plan, results, tracker
        self._coordinator, self._queue, self._notify = coordinator, queue, notify
        self._initialised = asyncio.Event()
        """Set once every random model is initialised."""
        self._promising: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        """Task -> set once its scorer in training classifies clearly better than chance."""

    async def make_starts(self, states: Sequence[str]) -> None:
        """Make and record start states; a failure is recorded as that state's."""
        random = [state for state in states if self._plan.starts[state].init is not None]
        async with asyncio.TaskGroup() as group:
            for state in states:
                if state not in random:
                    group.create_task(self._make_start(state))
            for state in random:
                await self._make_start(state)
            self._initialised.set()

    async def _make_start(self, state: str) -> None:
        try:
            async with self._claimed(state):
                await self._prepare_start(state)
        except Exception as e:
            descendants = self._tracker.state_failed(state, error_summary(e))
            errors = self._tracker.failed
            failures = [Failure(each, errors[each]) for each in (state, *descendants)]
            record_failures(self._results, self._plan, failures)
        else:
            self._tracker.state_done(state)

    async def make_scorer(self, task: str, layout: Layout) -> tuple[ScorerConfig, float | None]:
        """Return the configuration of a task's scorer, and its accuracy on held-out texts.

        The task's own scorer is trained here if it does not exist yet; the accuracy of any other
        scorer is None. Raises what keeps the scorer from being made. Raises `SpecError` if its
        accuracy is not clearly better than chance and the sweep file does not allow that.
        """
        backend = next(each.scorer for each in self._plan.spec.task if each.name == task)
        assert backend is not None  # only tasks whose answers are scored get here
        serving = self._plan.spec.resources.scorers
        name = self._plan.probes[task].scorer
        accuracy: float | None = None
        record: dict[str, Any] = {}
        async with self._claimed(name):
            checkpoint = backend.hub or (os.path.abspath(backend.path) if backend.path else None)
            if checkpoint is None:
                record = await self._train_scorer(task, name)
                accuracy = float(record["accuracy"])
                checkpoint = self._results.location(f"scorers/{name}")
        if accuracy is not None:
            at = [each.name for each in self._plan.spec.task].index(task)
            self._notify(check_accuracy(name, record, f"task.{at}.scorer", backend.allow_chance))
        return ScorerConfig(
            name=name,
            kind=serving.engine,
            checkpoint=checkpoint,
            revision=backend.revision,
            mode=backend.mode,
            label=backend.label,
            sign=backend.sign,
            max_model_len=serving.context,
            replicas=layout.scorer_replicas,
            cpus=layout.needs.scorer.cpus,
            gpus=layout.needs.scorer.gpus,
            gpu_memory_utilization=memory_share(serving, layout.needs.scorer.gpus),
            trust_remote_code=backend.trust_remote_code,
            chat=backend.text == "chat",
        ), accuracy

    async def scorer_is_good(self, task: str, made: asyncio.Future[Any]) -> None:
        """Wait until the task's scorer is known to classify better than chance, or is made.

        `made` is the outcome of `make_scorer`. Raises its `SpecError`; whatever else keeps the
        scorer from being made is reported where answers are scored.
        """
        promising = asyncio.ensure_future(self._promising[task].wait())
        await asyncio.wait({made, promising}, return_when=asyncio.FIRST_COMPLETED)
        promising.cancel()
        if made.done() and not made.cancelled() and isinstance(made.exception(), SpecError):
            await made

    async def _prepare_start(self, state: str) -> None:
        plan, activity = self._plan, self._tracker.activity
        task = plan.start_task[state]
        activity.set(f"start {state}", "making start states", timed=True)
        began = time.monotonic()
        try:
            await _prepare_start.remote(
                self._results.uri,
                state,
                plan.starts[state],
                task,
                settings_of(plan, task),
                plan.spec.sweep,
                plan.lineage(state),
                git_revision(),
            )
        finally:
            activity.add_seconds("make starts", time.monotonic() - began)
            activity.clear(f"start {state}")

    async def _train_scorer(self, task: str, name: str) -> dict[str, Any]:
        """Train a task's own scorer, unless it is there already; return its record."""
        activity = self._tracker.activity
        await self._initialised.wait()
        async with self._queue.turn():
            activity.set(f"train {name}", f"training the scorer {name}", timed=True)
            began = time.monotonic()
            try:
                settings = settings_of(self._plan, task)
                # Ray annotates a streaming task as if it returned one reference.
                rounds: Any = _train_scorer.remote(self._results.uri, task, settings, name)
                async for ref in rounds:
                    measured = await ref
                    if isinstance(measured, dict):  # the record, which comes last
                        return measured
                    if _is_promising(measured):
                        self._promising[task].set()
            finally:
                activity.add_seconds("train scorers", time.monotonic() - began)
                activity.clear(f"train {name}")
        raise RuntimeError(f"scorer {name}: its training ended without a record")

    @contextlib.asynccontextmanager
    async def _claimed(self, name: str) -> AsyncIterator[None]:
        """Hold the claim of a state or scorer.

        If another driver made it meanwhile, the caller finds it in the results.
        """
        while not await asyncio.to_thread(self._coordinator.claim, [name]):
            await asyncio.sleep(POLL_EVERY)
        try:
            yield
        finally:
            await asyncio.to_thread(self._coordinator.release, [name])


def _is_promising(by_label: Sequence[tuple[int, int]]) -> bool:
    """Return whether texts are classified clearly better than chance."""
    correct, texts = (sum(column) for column in zip(*by_label, strict=True))
    return texts > 0 and better_than_chance(correct, texts, _chance(by_label))


def _chance(by_label: Sequence[tuple[int, int]]) -> float:
    """Return the accuracy of always naming the larger class."""
    counts = [count for _, count in by_label]
    return max(counts) / sum(counts)


def check_accuracy(name: str, record: Mapping[str, Any], field: str, allow_chance: bool) -> str:
    """Return a line on the accuracy of a scorer, given its record (`scorer_training`).

    Raises `SpecError` about `field` if the accuracy is not clearly better than chance, the share of
    the larger class, unless `allow_chance`.
    """
    texts = int(record["held_out"])
    correct = round(record["accuracy"] * texts)
    by_label = record.get("by_label")  # earlier versions did not record it
    chance = _chance(by_label) if by_label and texts else 0.5
    low, high = accuracy_interval(correct, texts)
    said = (
        f"scorer {name}: held-out accuracy {record['accuracy']:.3f} [{low:.3f}, {high:.3f}] on "
        f"{texts} texts"
    )
    if better_than_chance(correct, texts, chance):
        return said
    said += f", not clearly better than chance ({chance:.3f})"
    if allow_chance:
        return f"{said}; the sweep goes on (scorer.allow_chance), its scores say little"
    raise SpecError(
        f"{field}: {said}; give a scorer that was trained elsewhere (hub or path) or more labelled "
        "texts, or set allow_chance: true to go on"
    )


@ray.remote(num_cpus=SETUP_CPUS, max_retries=1)
def _prepare_start(*arguments: Any) -> None:
    from ..training.start_states import prepare_start

    prepare_start(*arguments)


@ray.remote(num_cpus=SETUP_CPUS, max_retries=1, num_returns="streaming")
def _train_scorer(uri: str, task: str, data: dict[str, Any], name: str) -> Iterator[Any]:
    from ..training.scorer_training import train_classifier

    yield from train_classifier(uri, task, data, name)
