"""Which trial holds which trainer slot of the layout, while the layout may change.

A trial holds a slot from its start to its end. When nodes join or leave, a new layout replaces the
slots: trials keep the slots that they hold, and slots that are no longer in the layout are not
assigned again. A slot's worker group stays alive between trials, since starting one takes tens of
seconds.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..placement import TrainerSlot

Nodes = tuple[str, ...]
"""The id of the node of each worker."""


class Groups(Protocol):
    """Starts and ends worker groups, as `worker_groups.WorkerGroups` does. Thread-safe."""

    def start(self, nodes: Nodes) -> str:
        """Start a group; return its name at once."""

    def responds(self, group: str) -> bool:
        """Return whether the group is alive."""

    def close(self, group: str) -> None:
        """Let an idle group end by itself."""

    def kill(self, group: str) -> None:
        """End a group at once."""


@dataclass(frozen=True)
class HeldSlot:
    """A slot that a trial holds: the nodes of its workers, and the name of its worker group."""

    nodes: Nodes
    group: str


class TrainerSlots:
    """The trainer slots of the layout, the trials that hold them, and their groups. Thread-safe."""

    def __init__(self, slots: Sequence[TrainerSlot], groups: Groups) -> None:
        self._lock = threading.Lock()
        self._slots = tuple(slots)
        self._groups = groups
        self._held: dict[str, HeldSlot] = {}
        """Trial -> its slot."""
        self._idle: list[HeldSlot] = []
        """Slots with a living group that no trial holds."""
        self._unused: set[str] = set()
        """Groups that no trial has held yet: they may still be starting."""

    def start_ahead(self, trials: int) -> None:
        """Start groups for trials that will need one soon, on free slots; they wait idle."""
        with self._lock:
            free = self._free_places()
            free.subtract(slot.nodes for slot in self._idle)
            places = [nodes for nodes, count in free.items() for _ in range(count)]
            for nodes in places[:trials]:
                group = self._groups.start(nodes)
                self._unused.add(group)
                self._idle.append(HeldSlot(nodes, group))

    def acquire(self, trial: str) -> HeldSlot | None:
        """Assign a free slot to the trial; return None where all slots are held.

        Slots with a living group are assigned first.
        """
        while True:
            with self._lock:
                nodes = self._free()
                if nodes is None:
                    return None
                idle = next((slot for slot in self._idle if slot.nodes == nodes), None)
                if idle is None:
                    slot = self._held[trial] = HeldSlot(nodes, self._groups.start(nodes))
                    return slot
                self._idle.remove(idle)
                self._held[trial] = idle
                if idle.group in self._unused:
                    self._unused.remove(idle.group)
                    return idle
            if self._groups.responds(idle.group):  # without the lock: it may take seconds
                return idle
            self.release(trial, reusable=False)

    def _free(self) -> Nodes | None:
        """Return the nodes of a slot that is not held, one with a living group if possible."""
        free = self._free_places()
        choices = [slot.nodes for slot in self._slots if free[slot.nodes] > 0]
        living = {slot.nodes for slot in self._idle}
        return next((nodes for nodes in choices if nodes in living), next(iter(choices), None))

    def _free_places(self) -> Counter[Nodes]:
        """Return the number of slots that are not held, by nodes; slots are equal by these.

        It is below 0 where more are held than the layout has now.
        """
        free = Counter(slot.nodes for slot in self._slots)
        free.subtract(slot.nodes for slot in self._held.values())
        return free

    def release(self, trial: str, reusable: bool) -> None:
        """Free the trial's slot, if it holds one.

        Its group is kept for another trial if it is `reusable` and the slot is in the layout.
        """
        with self._lock:
            slot = self._held.pop(trial, None)
            if slot is None:
                return
            kept = reusable and self._free_places()[slot.nodes] > 0
            if kept:
                self._idle.append(slot)
        if not kept:
            self._groups.kill(slot.group)

    @property
    def living(self) -> int:
        """The number of slots whose resources are reserved, by a trial or an idle group."""
        with self._lock:
            return len(self._held) + len(self._idle)

    @property
    def surplus(self) -> int:
        """The number of held slots that the layout has no room for."""
        with self._lock:
            return -sum(count for count in self._free_places().values() if count < 0)

    def exclude(self, nodes: Collection[str]) -> None:
        """Assign no slot on these nodes until `replace` is called."""
        with self._lock:
            slots = [slot for slot in self._slots if not set(nodes) & set(slot.nodes)]
        self.replace(slots)

    def replace(self, slots: Sequence[TrainerSlot]) -> None:
        """Assign from these slots from now on; idle groups of other slots end."""
        with self._lock:
            self._slots = tuple(slots)
            room = self._free_places()
            kept: list[HeldSlot] = []
            for slot in self._idle:
                room[slot.nodes] -= 1
                if room[slot.nodes] >= 0:
                    kept.append(slot)
            ended = [slot for slot in self._idle if slot not in kept]
            self._idle = kept
        for slot in ended:
            self._groups.kill(slot.group)

    def close_idle(self) -> None:
        """End the groups that no trial holds, which frees their resources."""
        with self._lock:
            ended, self._idle = self._idle, []
        for slot in ended:
            self._groups.close(slot.group)

    def end(self) -> None:
        """End all groups: those that a trial holds at once, the idle ones by themselves."""
        self.close_idle()
        with self._lock:
            trials = list(self._held)
        for trial in trials:
            self.release(trial, reusable=False)
