"""Alternates training and evaluation where both need the same resources.

Used for layouts whose parts take turns (`placement.sharing`). Training goes on until no trial is
ready, or until `LONGEST_TRAINING` has passed and a state waits to be evaluated; then the worker
groups end, which frees their memory. Evaluation goes on until nothing is left to answer or score;
then engines and scorers end. A turn ends only if there is work for the other one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..evaluation.evaluator import Evaluator
from ..placement import Phase
from ..schedule.tune_search import TrialSearcher
from .membership import ClusterMembership

LONGEST_TRAINING = 900.0
"""Seconds after which training yields to states that wait. Every state's checkpoint is kept until
it is evaluated, so this limits the disk space that waiting states need."""
POLL_SECONDS = 0.5


class Turns:
    """Decides when the phase of the layout in force changes; `membership` carries it out."""

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

    async def alternate(self) -> None:
        """Change phases until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self._over():
                await self._change()

    def _over(self) -> bool:
        """Whether the present phase should end."""
        if self._membership.phase is Phase.EVALUATION:
            return self._evaluator.idle and not self._searcher.idle
        if self._evaluator.idle:
            return False
        return self._searcher.idle or time.monotonic() - self._since > LONGEST_TRAINING

    async def _change(self) -> None:
        training = self._membership.phase is Phase.TRAINING
        waiting = self._evaluator.waiting if training else self._searcher.waiting
        work = "evaluation request(s)" if training else "training run(s)"
        self._notify(f"{'training' if training else 'evaluation'} pauses for {waiting} {work}")
        phase = Phase.EVALUATION if training else Phase.TRAINING
        await self._membership.enter(phase, self._evaluator)
        self._since = time.monotonic()
