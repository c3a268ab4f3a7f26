"""Who holds which place of a layout at this moment, while the layout may change under them.

A trial holds a trainer slot from its release to its end, a kind of engine its slot while it is
open. When nodes come or go, a new layout takes the place of the old one: what is held stays held,
and what has no place any more is not given out again.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from ..placement import EngineSlot, Layout, Trainer


class TrainerSlots:
    """The trainer slots, and the trials on them; safe to use from several threads."""

    def __init__(self, slots: Sequence[Trainer]) -> None:
        self._lock = threading.Lock()
        self._slots = slots
        self._held: dict[str, Trainer] = {}

    def take(self, trial: str) -> tuple[str, ...] | None:
        """A free slot for the trial: the node of each worker; None where all are held."""
        with self._lock:
            held = Counter(slot.nodes for slot in self._held.values())
            for slot in self._slots:
                if not held[slot.nodes]:
                    self._held[trial] = slot
                    return slot.nodes
                held[slot.nodes] -= 1
            return None

    def give_back(self, trial: str) -> None:
        """The trial ended."""
        with self._lock:
            self._held.pop(trial, None)

    @property
    def held(self) -> int:
        """How many trials hold a slot."""
        with self._lock:
            return len(self._held)

    def lose(self, nodes: Collection[str]) -> None:
        """Give out no slot on these nodes any more, until the layout is another."""
        with self._lock:
            self._slots = [slot for slot in self._slots if not set(nodes) & set(slot.nodes)]

    def become(self, slots: Sequence[Trainer]) -> None:
        """Give out those slots from now on."""
        with self._lock:
            self._slots = slots


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
