"""Leases on the weights that a replica holds: many users of one state, or one who swaps.

Serve's own multiplexing replaces a model while its requests still run; a lease does not. Users of
the held state enter at once while nobody waits; a user of another state waits until nobody is in,
swaps alone, and lets in with it everyone who came for that state before it was there. States take
turns in the order they were first asked for, so none starves. Pure asyncio, for one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class WeightLease:
    """The lease of one replica. `held` is the state it holds; None before the first swap and
    after one that failed."""

    def __init__(self) -> None:
        self.held: str | None = None
        self._users = 0
        self._coming: str | None = None
        """The state that is being swapped in."""
        self._turns: dict[str, int] = {}
        """State -> how many wait for it, in order of turns."""
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, state: str, swap: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Hold `state` for the time of the block; `swap` brings it in when it is not held.

        What `swap` raises is raised to the one who ran it; the next in line tries for itself.
        """
        await self._enter(state, swap)
        try:
            yield
        finally:
            # Shielded: a cancelled user must still be counted out.
            await asyncio.shield(self._leave())

    async def _enter(self, state: str, swap: Callable[[], Awaitable[None]]) -> None:
        async with self._changed:
            # Nobody else waits: the held state may be used on.
            if not self._turns and self.held == state and self._coming is None:
                self._users += 1
                return
            self._turns[state] = self._turns.get(state, 0) + 1
            joins = self._coming == state
            try:
                await self._changed.wait_for(lambda: self._may_enter(state, joins))
                if self.held == state:
                    self._users += 1
                    return
                self._coming, self.held = state, None
            finally:
                self._turns[state] -= 1
                if not self._turns[state]:
                    del self._turns[state]
                self._changed.notify_all()
        done = False
        try:
            await swap()
            done = True
        finally:
            counted = asyncio.ensure_future(self._swapped(state if done else None))
            try:
                await asyncio.shield(counted)
            except asyncio.CancelledError:
                await counted
                if done:
                    await self._leave()
                raise

    async def _swapped(self, state: str | None) -> None:
        async with self._changed:
            self._coming, self.held = None, state
            if state is not None:
                self._users += 1
            self._changed.notify_all()

    def _may_enter(self, state: str, joins: bool) -> bool:
        if self._coming is not None:
            return False
        if next(iter(self._turns)) != state:
            return joins and self.held == state
        return self.held == state or self._users == 0

    async def _leave(self) -> None:
        async with self._changed:
            self._users -= 1
            self._changed.notify_all()
