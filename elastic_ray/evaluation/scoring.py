"""Scores the answers to an evaluation request with the task's scorer, and records the scores."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from statistics import fmean
from typing import Any

from ..plan import EvaluationRequest, Plan
from ..progress.activity import clock
from ..progress.tracker import ProgressTracker
from ..results.errors import AlreadyRecorded
from ..results.store import Results
from ..serving.fleet import Fleet
from ..serving.types import Answer, Conversation, ScoredText, ScorerConfig
from ..tasks.dialogue import question_in
from ..tasks.task import Task

EXAMPLES = 16
"""Examples of either kind that are scored when a scorer has started."""

MadeScorer = tuple[ScorerConfig, float | None]
"""A scorer's configuration, and its accuracy on held-out texts (None if unknown)."""


class ScoringRunner:
    """Starts the scorers of the fleet and scores answers.

    `made` gives each task's scorer once it is available (it may have to be trained first). `loaded`
    holds the tasks, which know what of an answer a scorer reads. `notify` takes messages for the
    user. A scorer is started at its first use, or ahead of that by `prepare`.
    """

    def __init__(
        self,
        plan: Plan,
        results: Results,
        tracker: ProgressTracker,
        fleet: Fleet,
        made: Mapping[str, Awaitable[MadeScorer]],
        loaded: Mapping[str, Task],
        notify: Callable[[str], None],
    ) -> None:
        self._results, self._tracker, self._fleet, self._notify = results, tracker, fleet, notify
        self._probes = plan.requests()
        self._loaded = loaded
        self._made = {task: asyncio.ensure_future(scorer) for task, scorer in made.items()}
        self._open: dict[str, asyncio.Future[None]] = {}

    async def prepare(self) -> None:
        """Start every scorer before there is anything to score; `score` reports what failed."""
        for task in self._made:
            with contextlib.suppress(Exception):
                await self._scorer(task)

    def cancel(self) -> None:
        """Stop waiting for scorers that are not made or not started yet."""
        for scorer in self._made.values():
            scorer.cancel()
        for start in self._open.values():
            start.cancel()

    async def score(self, request: EvaluationRequest, answers: list[Answer]) -> None:
        """Score the answers to a request, record the scores and close the request.

        Raises what kept the scorer from being made, started or used.
        """
        probe = self._probes[request]
        config, accuracy = await self._scorer(request.task)
        texts = [
            self._text(request.task, config, answer.prompt, answer.response) for answer in answers
        ]
        reply = await self._fleet.score(config.name, texts)
        rows: list[dict[str, Any]] = [
            {
                "prompt_index": answer.prompt_index,
                "sample": answer.sample,
                "score": score.score,
                "probability": score.probability,
                "scorer_accuracy": accuracy,
            }
            for answer, score in zip(answers, reply.items, strict=True)
        ]
        names = {"state_id": request.state_id, "probe_id": probe.probe_id, "scorer": probe.scorer}
        # Another sweep may have scored them meanwhile: equal but for the last digits.
        with contextlib.suppress(AlreadyRecorded):
            await asyncio.to_thread(self._results.write, "scores", rows, **names)
        self._tracker.activity.add_seconds("score", reply.seconds)
        self._tracker.request_closed(request)

    async def _scorer(self, task: str) -> MadeScorer:
        """Return the task's scorer once it runs."""
        config, accuracy = await asyncio.shield(self._made[task])
        if config.name not in self._open:
            self._open[config.name] = asyncio.ensure_future(self._start(config, task))
        await asyncio.shield(self._open[config.name])
        return config, accuracy

    def _text(self, task: str, config: ScorerConfig, prompt: str, response: str) -> ScoredText:
        """Return what the scorer reads of an answer."""
        if config.chat:
            return Conversation(question_in(prompt), response.strip())
        return self._loaded[task].scored_text(prompt, response)

    async def _start(self, config: ScorerConfig, task: str) -> None:
        began = time.monotonic()
        key, activity = f"scorer {config.name}", self._tracker.activity
        activity.set(key, f"{key} starts", timed=True)
        try:
            started = await self._fleet.open_scorer(config)
        finally:
            activity.clear(key)
        seconds = time.monotonic() - began
        activity.add_seconds("start scorers", seconds)
        self._notify(f"{key} runs ({started['engine']}); started in {clock(seconds)}")
        if started.get("notice"):
            self._notify(f"{key}: {started['notice']}")
        await self._tell_examples(config, task)

    async def _tell_examples(self, config: ScorerConfig, task: str) -> None:
        """Tell how the scorer scores the task's own examples: a wrong class or sign shows."""
        pools = {
            name: self._loaded[task].pool(name)[:EXAMPLES] for name in ("positive", "negative")
        }
        if not all(pools.values()):
            return
        read = [
            self._text(task, config, each.prompt, each.response)
            for pool in pools.values()
            for each in pool
        ]
        scores = [each.score for each in (await self._fleet.score(config.name, read)).items]
        count = len(pools["positive"])
        aligned, contrary = fmean(scores[:count]), fmean(scores[count:])
        shown = " ".join(str(pools["positive"][0].response).split())[:60]
        self._notify(
            f"scorer {config.name}: mean of {count} positive examples {aligned:.3f}, of "
            f"{len(scores) - count} negative ones {contrary:.3f}, e.g. {scores[0]:.3f} for "
            f"{shown!r}"
            + ("" if aligned > contrary else "; larger should mean more aligned: label or sign?")
        )
