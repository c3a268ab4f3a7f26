"""Room on a cluster's nodes: what is taken where, down to the share of each GPU (pure).

The same rules as Ray's: what asks for a share of a GPU gets it of one GPU; what asks for more than
one gets whole ones; and all that one process, or one placement group packed strictly, asks for is
on one node.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .nodes import Node

ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Bundle:
    """CPUs and GPUs of one process."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one process has: its node, its CPUs, and shares of GPUs by their number there."""

    node: str
    cpus: float
    gpus: tuple[tuple[int, float], ...] = ()


class FreeResources:
    """What is free on the nodes; `take` and `give_back` change it."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._cpus: dict[str, float] = {}
        self._gpus: dict[str, list[float]] = {}
        for node in nodes:
            self.add_node(node)

    def add_node(self, node: Node) -> None:
        """A node that came, all of it free."""
        self._cpus[node.name] = node.cpus
        self._gpus[node.name] = [1.0] * node.gpus

    def capacity_for(self, node: str, need: Bundle) -> int:
        """How many of `need` would fit on the node."""
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
        """`copies` of `need` on one node: the one that has the least left, so that large gaps stay;
        None where no node has room. What needs no GPU goes where there is none, if it can."""
        found = [node for node in self._cpus if self.capacity_for(node, need) >= copies]
        if not found:
            return None
        node = min(found, key=lambda name: self._left(name, need))
        return tuple(self._take(node, need) for _ in range(copies))

    def allocate_spread(self, need: Bundle, copies: int) -> tuple[Allocation, ...] | None:
        """`copies` of `need` on as few nodes as come of taking the roomiest first; else None."""
        taken: list[Allocation] = []
        by_room = sorted(
            self._cpus,
            key=lambda node: (-min(copies, self.capacity_for(node, need)), self._left(node, need)),
        )
        for node in by_room:
            for _ in range(min(copies - len(taken), self.capacity_for(node, need))):
                taken.append(self._take(node, need))
        if len(taken) == copies:
            return tuple(taken)
        self.release(taken)
        return None

    def release(self, taken: Iterable[Allocation]) -> None:
        """Free what was taken."""
        for each in taken:
            self._cpus[each.node] += each.cpus
            for number, share in each.gpus:
                self._gpus[each.node][number] += share

    def reclaim(self, taken: Iterable[Allocation]) -> None:
        """Take again exactly what was taken before."""
        for each in taken:
            self._cpus[each.node] -= each.cpus
            for number, share in each.gpus:
                self._gpus[each.node][number] -= share

    def _left(self, node: str, need: Bundle) -> tuple[bool, float, float]:
        gpus = sum(self._gpus[node])
        return need.gpus == 0 and bool(self._gpus[node]), gpus, self._cpus[node]

    def _take(self, node: str, need: Bundle) -> Allocation:
        free = self._gpus[node]
        shares: tuple[tuple[int, float], ...] = ()
        if need.gpus > 1:
            whole = [i for i, share in enumerate(free) if share > 1 - ROUNDING]
            shares = tuple((i, 1.0) for i in whole[: round(need.gpus)])
        elif need.gpus > 0:
            # Ray too takes the fullest GPU that has room, so that shares gather.
            fits = (i for i, share in enumerate(free) if share + ROUNDING >= need.gpus)
            shares = ((min(fits, key=lambda i: (free[i], i)), need.gpus),)
        taken = Allocation(node, need.cpus, shares)
        self.reclaim([taken])
        return taken
