"""Which engine group holds which engine slot, and which groups wait for one.

The engine slots come from the layout. A group holds at most one slot; groups that find none free
wait in order of arrival. Pure and synchronous: the state machine (`state_machine`) decides when a
group asks for a slot and when it gives it back.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..placement import EngineSlot


class EngineSlots:
    """Assigns engine slots to engine groups, by their names."""

    def __init__(self, slots: Sequence[EngineSlot]) -> None:
        self._slots = tuple(slots)
        self._holders: dict[int, str] = {}
        """Index of a slot -> the group that holds it."""
        self._queue: list[str] = []

    def has_free(self, group: str) -> bool:
        """Return whether the group could take a slot now."""
        return self._free_slot(group) is not None

    def enqueue(self, group: str) -> None:
        """Add the group to the groups that wait for a slot."""
        self._queue.append(group)

    def grant(self) -> str | None:
        """Give a free slot to the first waiting group that may use it, and return that group.

        Returns None where no waiting group can have a slot.
        """
        for group in self._queue:
            index = self._free_slot(group)
            if index is not None:
                self._queue.remove(group)
                self._holders[index] = group
                return group
        return None

    def release(self, group: str) -> None:
        """Take the slot back from the group that holds it."""
        del self._holders[self._index(group)]

    def places(self, group: str) -> dict[str, int]:
        """Return the replicas of the slot that the group holds: node id -> number of replicas."""
        return self._slots[self._index(group)].places

    def replicas(self, group: str) -> int:
        """Return the number of replicas of the slot that the group holds."""
        return sum(self.places(group).values())

    @property
    def holders(self) -> tuple[str, ...]:
        """The groups that hold a slot."""
        return tuple(self._holders.values())

    @property
    def waiting(self) -> tuple[str, ...]:
        """The groups that wait for a slot, the first to come first."""
        return tuple(self._queue)

    def change(self, slots: Sequence[EngineSlot]) -> None:
        """Use the slots of a new layout.

        A slot that is held must keep its index, as `placement.adapt` has it.
        """
        self._slots = tuple(slots)

    def _index(self, group: str) -> int:
        return next(index for index, holder in self._holders.items() if holder == group)

    def _free_slot(self, group: str) -> int | None:
        """Return the index of a slot that nobody holds, has replicas, and admits the group."""
        for index, slot in enumerate(self._slots):
            if index not in self._holders and group in slot.groups and slot.replicas:
                return index
        return None
