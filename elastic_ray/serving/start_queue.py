"""Limits how many processes of a sweep load their libraries at the same time on CPUs.

Starting an engine or a scorer keeps one core busy for half a minute. On a machine with few cores,
all of them at once would hold up the first training run, on which everything else waits. So they
start one after the other, in the order in which they are needed, on the cores that trainers leave.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from ..placement import Layout, Node


class StartQueue:
    """Lets at most `at_once` starts happen at a time, in the order of arrival; None: any number."""

    def __init__(self, at_once: int | None = None) -> None:
        self._turns = None if at_once is None else asyncio.Semaphore(at_once)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until this start may happen; the block is the start."""
        if self._turns is None:
            yield
            return
        async with self._turns:
            yield


def starts_at_once(layout: Layout, nodes: Sequence[Node]) -> int | None:
    """Return the number of starts for which there are cores beside the trainers; at least 1.

    None where GPUs are used: machines with GPUs have many cores, and starts wait for other things.
    """
    if layout.needs.uses_gpus:
        return None
    trainers = sum(len(slot.nodes) or 1 for slot in layout.trainer_slots)
    cores = sum(node.cpus for node in nodes) - trainers * layout.needs.worker.cpus
    return max(1, int(cores))
