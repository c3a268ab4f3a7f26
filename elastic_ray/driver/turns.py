"""Gives training and evaluation the same resources at different times.

- Where the layout's parts take turns (`placement.sharing`), training goes on until no trial is
  ready, or until `LONGEST_TRAINING` has passed and a state waits to be evaluated. Then the worker
  groups end, which frees their memory. Evaluation goes on until nothing is left to answer or score.
- Where they run side by side, trainers borrow the places of engines and scorers while nothing is to
  be evaluated and trials wait for a place.

A turn ends only if there is work for the other one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..evaluation.evaluator import Evaluator
from ..placement import LONGEST_TRAINING, Phase
from ..schedule.tune_search import TrialSearcher
from .membership import ClusterMembership

IDLE_BEFORE_LENDING = 120.0
"""Seconds without work after which running engines are stopped to lend their places. They take
about a minute to start again."""
SHORTEST_LOAN = 300.0
"""Seconds for which places are lent at least, while trials wait for one."""
POLL_SECONDS = 0.5


class Turns:
    """Decides when the phase in force changes; `membership` carries it out."""

    def __init__(
        self,
        membership: ClusterMembership,
        searcher: TrialSearcher,
        evaluator: Evaluator,
        notify: Callable[[str], None],
    ) -> None:
        self._membership, self._searcher = membership, searcher
        self._evaluator, self._notify = evaluator, notify
        self._since = time.monotonic()
        """Since when the present phase lasts."""
        self._busy = 0.0
        """When something was last evaluated."""

    async def alternate(self) -> None:
        """Change phases until cancelled."""
        while True:
            if not self._evaluator.idle:
                self._busy = time.monotonic()
            if self._membership.layout.turns:
                await self._take_turns()
            else:
                await self._lend()
            await asyncio.sleep(POLL_SECONDS)

    async def _take_turns(self) -> None:
        evaluator, searcher = self._evaluator, self._searcher
        if self._membership.phase is Phase.EVALUATION:
            if evaluator.idle and not searcher.idle:
                message = f"evaluation pauses for {searcher.waiting} training run(s)"
                await self._enter(Phase.TRAINING, message)
        elif not evaluator.idle and (searcher.idle or self._lasted(LONGEST_TRAINING)):
            message = f"training pauses for {evaluator.waiting} evaluation request(s)"
            await self._enter(Phase.EVALUATION, message)

    async def _lend(self) -> None:
        evaluator, waiting = self._evaluator, self._searcher.waiting
        if self._membership.phase is None:
            quiet = time.monotonic() - self._busy > IDLE_BEFORE_LENDING
            free = evaluator.idle and (quiet or evaluator.engines_stopped)
            if waiting and free and self._membership.lends:
                message = f"{waiting} training run(s) use the places of engines"
                await self._enter(Phase.TRAINING, message)
        elif not evaluator.idle and (not waiting or self._lasted(SHORTEST_LOAN)):
            message = f"engines get their places back for {evaluator.waiting} evaluation request(s)"
            await self._enter(None, message)

    def _lasted(self, seconds: float) -> bool:
        return time.monotonic() - self._since > seconds

    async def _enter(self, phase: Phase | None, message: str) -> None:
        self._notify(message)
        if not await self._membership.enter(phase, self._evaluator):
            await self._membership.enter(None, self._evaluator)
        self._since = time.monotonic()
