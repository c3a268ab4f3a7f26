"""The lease on a replica's weights: many requests share one state, a swap has the replica alone.

Serve's own multiplexing replaces a model while requests still use it; a lease does not
(docs/concepts.md#rule-4). Requests for the held state enter at once while nobody waits. A request
for another state waits until no request is in flight, swaps the weights alone, and then enters
together with every request that was already waiting for that state. States take turns in the order
of their first waiting request, so none starves. Pure asyncio, for one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class WeightLease:
    """The lease of one replica."""

    def __init__(self) -> None:
        self.held_state: str | None = None
        """Id of the state that is loaded. None before the first swap and after a failed one."""
        self._users = 0
        """Requests in flight."""
        self._loading: str | None = None
        """The state that is being loaded."""
        self._waiting: dict[str, int] = {}
        """State -> number of waiting requests, in the order in which states take turns."""
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, state: str, swap: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Hold `state` during the block; `swap` is awaited to load it where it is not held.

        An error of `swap` is raised to the request that ran it. The next one in line runs its own.
        """
        await self._acquire(state, swap)
        try:
            yield
        finally:
            # Shielded: the count of users must also fall when the request is cancelled.
            await asyncio.shield(self._release())

    async def _acquire(self, state: str, swap: Callable[[], Awaitable[None]]) -> None:
        async with self._changed:
            if not self._waiting and self.held_state == state and self._loading is None:
                self._users += 1
                return
            self._waiting[state] = self._waiting.get(state, 0) + 1
            came_while_loading = self._loading == state
            try:
                await self._changed.wait_for(lambda: self._may_enter(state, came_while_loading))
                if self.held_state == state:
                    self._users += 1
                    return
                self._loading, self.held_state = state, None
            finally:
                self._waiting[state] -= 1
                if not self._waiting[state]:
                    del self._waiting[state]
                self._changed.notify_all()
        loaded = False
        try:
            await swap()
            loaded = True
        finally:
            finished = asyncio.ensure_future(self._finish_swap(state if loaded else None))
            try:
                await asyncio.shield(finished)
            except asyncio.CancelledError:
                await finished
                if loaded:
                    await self._release()
                raise

    async def _finish_swap(self, state: str | None) -> None:
        """Record the outcome of a swap: the state that is held now, used by who loaded it."""
        async with self._changed:
            self._loading, self.held_state = None, state
            if state is not None:
                self._users += 1
            self._changed.notify_all()

    def _may_enter(self, state: str, came_while_loading: bool) -> bool:
        if self._loading is not None:
            return False
        if next(iter(self._waiting)) != state:
            return came_while_loading and self.held_state == state
        return self.held_state == state or self._users == 0

    async def _release(self) -> None:
        async with self._changed:
            self._users -= 1
            self._changed.notify_all()
