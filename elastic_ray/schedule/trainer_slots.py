"""Who holds which place of a layout at this moment, while the layout may change under them.

A trial holds a trainer slot from its release to its end, a kind of engine its slot while it is
open. When nodes come or go, a new layout takes the place of the old one: what is held stays held,
and what has no place any more is not given out again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Sequence

from ..placement import TrainerSlot


class TrainerSlots:
    """The trainer slots, and the trials on them; safe to use from several threads."""

    def __init__(self, slots: Sequence[TrainerSlot]) -> None:
        self._lock = threading.Lock()
        self._slots = slots
        self._held: dict[str, TrainerSlot] = {}

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

    def become(self, slots: Sequence[TrainerSlot]) -> None:
        """Give out those slots from now on."""
        with self._lock:
            self._slots = slots
