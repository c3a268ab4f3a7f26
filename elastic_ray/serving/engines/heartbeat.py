"""Whether something that lives in another process still answers, without waiting for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from ..errors import EngineError

SILENCE = 600.0
"""Seconds without an answer after which it is given up: a swap of large weights from a slow disk is
a silence too."""


class Heartbeat:
    """Asks one thing at a time with `ask`; `beat` never waits for the answer."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[object]],
        silence: float = SILENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._silence, self._clock = ask, silence, clock
        self._asked = 0.0
        self._answer: asyncio.Future[object] | None = None

    def beat(self) -> None:
        """Ask, unless an answer is still to come; `EngineError` if that takes too long, and what
        the last asking raised."""
        if self._answer is not None and not self._answer.done():
            if self._clock() - self._asked > self._silence:
                raise EngineError(f"no answer for {self._silence:.0f} s")
            return
        last, self._asked = self._answer, self._clock()
        self._answer = asyncio.ensure_future(self._ask())
        if last is not None:
            last.result()
