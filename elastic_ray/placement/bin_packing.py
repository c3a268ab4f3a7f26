"""Tracks which CPUs and GPU shares of each node are free, and assigns them to processes. Pure.

Follows Ray's rules: a fraction of a GPU comes from a single GPU, more than one GPU means whole
GPUs, and one process (or one strictly packed placement group) is on one node.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .nodes import Node

ROUNDING = 1e-6
"""Tolerance for sums of fractional CPUs and GPUs."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """CPUs and GPUs that one process needs."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class Allocation:
    """Resources assigned to one process: node, CPUs, and (GPU index on the node, share) pairs."""

    node: str
    cpus: float
    gpus: tuple[tuple[int, float], ...] = ()


class FreeResources:
    """The free CPUs and GPU shares of a set of nodes."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._cpus: dict[str, float] = {}
        self._gpus: dict[str, list[float]] = {}
        for node in nodes:
            self._cpus[node.name] = node.cpus
            self._gpus[node.name] = [1.0] * node.gpus

    def capacity_for(self, node: str, need: Bundle) -> int:
        """Return how many copies of `need` fit on the node now."""
        count = float("inf")
        if need.cpus > 0:
            count = (self._cpus[node] + ROUNDING) // need.cpus
        free = self._gpus[node]
        if need.gpus > 1:
            count = min(count, sum(share > 1 - ROUNDING for share in free) // round(need.gpus))
        elif need.gpus > 0:
            count = min(count, sum((share + ROUNDING) // need.gpus for share in free))
        return int(min(count, 1_000_000))

    def allocate(self, need: Bundle, copies: int = 1) -> tuple[Allocation, ...] | None:
        """Take `copies` of `need` on one node; return None if no node has room for all of them.

        Chooses the fitting node with the least left (best fit), so that large gaps stay free. A
        need without GPUs goes to a node without GPUs if possible.
        """
        fitting = [node for node in self._cpus if self.capacity_for(node, need) >= copies]
        if not fitting:
            return None
        node = min(fitting, key=lambda name: self._left(name, need))
        return tuple(self._allocate_on(node, need) for _ in range(copies))

    def allocate_spread(self, need: Bundle, copies: int) -> tuple[Allocation, ...] | None:
        """Take `copies` of `need` over several nodes, those with the most room first.

        Returns None, with nothing taken, if the cluster has no room for all of them.
        """
        taken: list[Allocation] = []
        by_room = sorted(
            self._cpus,
            key=lambda node: (-min(copies, self.capacity_for(node, need)), self._left(node, need)),
        )
        for node in by_room:
            for _ in range(min(copies - len(taken), self.capacity_for(node, need))):
                taken.append(self._allocate_on(node, need))
        if len(taken) == copies:
            return tuple(taken)
        self.release(taken)
        return None

    def release(self, allocations: Iterable[Allocation]) -> None:
        """Mark the resources of these allocations as free."""
        for each in allocations:
            self._cpus[each.node] += each.cpus
            for number, share in each.gpus:
                self._gpus[each.node][number] += share

    def reclaim(self, allocations: Iterable[Allocation]) -> None:
        """Take exactly the resources of earlier allocations again."""
        for each in allocations:
            self._cpus[each.node] -= each.cpus
            for number, share in each.gpus:
                self._gpus[each.node][number] -= share

    def _left(self, node: str, need: Bundle) -> tuple[bool, float, float]:
        """Return the sort key of `allocate`: what the node has left, GPUs first."""
        gpus = sum(self._gpus[node])
        return need.gpus == 0 and bool(self._gpus[node]), gpus, self._cpus[node]

    def _allocate_on(self, node: str, need: Bundle) -> Allocation:
        free = self._gpus[node]
        shares: tuple[tuple[int, float], ...] = ()
        if need.gpus > 1:
            whole = [i for i, share in enumerate(free) if share > 1 - ROUNDING]
            shares = tuple((i, 1.0) for i in whole[: round(need.gpus)])
        elif need.gpus > 0:
            # Ray also prefers the fullest GPU that has room, which keeps other GPUs whole.
            fits = (i for i, share in enumerate(free) if share + ROUNDING >= need.gpus)
            shares = ((min(fits, key=lambda i: (free[i], i)), need.gpus),)
        allocation = Allocation(node, need.cpus, shares)
        self.reclaim([allocation])
        return allocation
