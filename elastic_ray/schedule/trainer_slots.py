"""Which trial holds which trainer slot of the layout, while the layout may change.

A trial holds a slot from its start to its end. When nodes join or leave, a new layout replaces the
slots: trials keep the slots that they hold, and slots that are no longer in the layout are not
assigned again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Sequence

from ..placement import TrainerSlot


class TrainerSlots:
    """The trainer slots of the layout and the trials that hold them. Thread-safe."""

    def __init__(self, slots: Sequence[TrainerSlot]) -> None:
        self._lock = threading.Lock()
        self._slots = slots
        self._held: dict[str, TrainerSlot] = {}
        """Trial -> its slot."""

    def acquire(self, trial: str) -> tuple[str, ...] | None:
        """Assign a free slot to the trial and return the node id of each of its workers.

        Returns None where all slots are held.
        """
        with self._lock:
            # Slots are equal by their nodes; as many slots of a kind are free as are not held.
            held = Counter(slot.nodes for slot in self._held.values())
            for slot in self._slots:
                if not held[slot.nodes]:
                    self._held[trial] = slot
                    return slot.nodes
                held[slot.nodes] -= 1
            return None

    def release(self, trial: str) -> None:
        """Free the trial's slot, if it holds one."""
        with self._lock:
            self._held.pop(trial, None)

    @property
    def held(self) -> int:
        """The number of slots that are held."""
        with self._lock:
            return len(self._held)

    def exclude(self, nodes: Collection[str]) -> None:
        """Assign no slot on these nodes until `replace` is called."""
        with self._lock:
            self._slots = [slot for slot in self._slots if not set(nodes) & set(slot.nodes)]

    def replace(self, slots: Sequence[TrainerSlot]) -> None:
        """Assign from these slots from now on."""
        with self._lock:
            self._slots = slots
