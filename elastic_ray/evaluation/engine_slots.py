"""Which engine group holds which engine slot, and when it yields it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..placement import EngineSlot, Layout


class EngineSlots:
    """The engine slots, and the kinds of engines that are open in them; for one event loop."""

    def __init__(self, layout: Layout) -> None:
        self._slots = layout.engine_slots
        self._holders: dict[int, str] = {}
        self._changed = asyncio.Condition()

    def free(self, kind: str) -> bool:
        """Whether the kind could open now."""
        return self._slot_for(kind) is not None

    @asynccontextmanager
    async def hold(self, kind: str) -> AsyncIterator[None]:
        """Wait for a slot that the kind may use, and hold it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.free(kind))
            number = self._slot_for(kind)
            assert number is not None
            self._holders[number] = kind
        try:
            yield
        finally:
            del self._holders[number]
            async with self._changed:
                self._changed.notify_all()

    def places(self, kind: str) -> dict[str, int]:
        """The replicas of an open kind, by node."""
        [number] = [number for number, holder in self._holders.items() if holder == kind]
        return self._slots[number].places

    @property
    def open(self) -> list[str]:
        """The kinds that hold a slot."""
        return list(self._holders.values())

    async def become(self, layout: Layout) -> None:
        """Use the slots of that layout from now on; it has those that are held, in their order."""
        async with self._changed:
            self._slots = layout.engine_slots
            self._changed.notify_all()

    def _slot_for(self, kind: str) -> int | None:
        """The number of a slot that is free for the kind: its own, or one that any may use."""

        def may(slot: EngineSlot) -> bool:
            return kind in slot.kinds and bool(slot.replicas)

        free = (i for i, slot in enumerate(self._slots) if i not in self._holders and may(slot))
        return next(free, None)
