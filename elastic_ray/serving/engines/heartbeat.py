"""Checks whether another process still responds, without waiting for the response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from ..errors import EngineError

MAX_SILENCE = 600.0
"""Seconds without a response after which a process counts as dead. Swapping large weights from a
slow disk also takes long."""


class Heartbeat:
    """Sends one `ping` at a time; `beat` never waits for the response."""

    def __init__(
        self,
        ping: Callable[[], Awaitable[object]],
        max_silence: float = MAX_SILENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ping, self._max_silence, self._clock = ping, max_silence, clock
        self._sent_at = 0.0
        self._response: asyncio.Future[object] | None = None

    def beat(self) -> None:
        """Send a ping, unless the last one still waits for its response.

        Raises `EngineError` if it has waited longer than `max_silence`, and whatever the last ping
        raised.
        """
        if self._response is not None and not self._response.done():
            if self._clock() - self._sent_at > self._max_silence:
                raise EngineError(f"no response for {self._max_silence:.0f} s")
            return
        last, self._sent_at = self._response, self._clock()
        self._response = asyncio.ensure_future(self._ping())
        if last is not None:
            last.result()
