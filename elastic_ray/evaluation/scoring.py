"""Scores of one state's answers: the scorer that a task wants, and the record of what it said."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..plan import EvaluationRequest, Plan
from ..progress.tracker import ProgressTracker
from ..results.errors import AlreadyRecorded
from ..results.store import Results
from ..serving.fleet import Fleet
from ..serving.types import Answer, ScorerConfig
from ..tasks.task import Task

Made = tuple[ScorerConfig, float | None]
"""A scorer's configuration and held-out accuracy (None where it is not known)."""


class ScoringRunner:
    """Scores answers; `made` gives each task's scorer once it is there (it may be trained first).
    `loaded` holds the tasks, which say what a scorer reads of an answer.

    A scorer is opened at its first use, or ahead by `prepare`.
    """

    def __init__(
        self,
        plan: Plan,
        results: Results,
        tracker: ProgressTracker,
        fleet: Fleet,
        made: Mapping[str, Awaitable[Made]],
        loaded: Mapping[str, Task],
        say: Callable[[str], None],
    ) -> None:
        self._results, self._tracker, self._fleet, self._say = results, tracker, fleet, say
        self._probes = plan.requests()
        self._loaded = loaded
        self._made = {task: asyncio.ensure_future(scorer) for task, scorer in made.items()}
        self._open: dict[str, asyncio.Future[None]] = {}

    async def prepare(self) -> None:
        """Open every scorer before there is anything to score; what fails is told then."""
        for task in self._made:
            with contextlib.suppress(Exception):
                await self._scorer(task)

    def cancel(self) -> None:
        """Make no scorer that is not there yet."""
        for scorer in self._made.values():
            scorer.cancel()

    async def score(self, question: EvaluationRequest, answers: list[Answer]) -> None:
        """Score the answers to a question and record the scores."""
        probe = self._probes[question]
        config, accuracy = await self._scorer(question.task)
        judged = self._loaded[question.task].judged
        texts = [judged(answer.prompt, answer.response) for answer in answers]
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
        names = {"state_id": question.state_id, "probe_id": probe.probe_id, "scorer": probe.scorer}
        # Another sweep may have scored them meanwhile: the same but for the last digits.
        with contextlib.suppress(AlreadyRecorded):
            await asyncio.to_thread(self._results.write, "scores", rows, **names)
        self._tracker.activity.add_seconds("score", reply.seconds)
        self._tracker.request_closed(question)

    async def _scorer(self, task: str) -> Made:
        """The task's scorer, open."""
        config, accuracy = await asyncio.shield(self._made[task])
        if config.name not in self._open:
            self._open[config.name] = asyncio.ensure_future(self._start(config))
        await asyncio.shield(self._open[config.name])
        return config, accuracy

    async def _start(self, config: ScorerConfig) -> None:
        began = time.monotonic()
        self._tracker.activity.set(f"scorer {config.name}", f"scorer {config.name}: starting")
        about = await self._fleet.open_scorer(config)
        self._tracker.activity.add_seconds("start scorers", time.monotonic() - began)
        if about.get("notice"):
            self._say(f"scorer {config.name}: {about['notice']}")
        self._tracker.activity.set(
            f"scorer {config.name}", f"scorer {config.name}: {about['engine']}"
        )
