"""Adapts a running sweep to nodes that join or leave the cluster, and to the phase it is in.

Trainer slots, engines and scorers get new places. Work on nodes that stay keeps running. Where the
layout's parts take turns (`turns` decides when), only those of the phase have places.
"""

from __future__ import annotations

import asyncio

from ..cluster.ray_cluster import staying_nodes
from ..evaluation.evaluator import Evaluator
from ..placement import Layout, Node, Phase, Workload, adapt, count_by_node
from ..schedule.trainer_slots import TrainerSlots
from ..serving.errors import error_summary
from ..serving.fleet import Fleet
from ..spec import Resources
from .progress_display import ProgressDisplay

CHECK_EVERY = 5.0
"""Seconds between checks of the cluster's nodes: some clouds give only half a minute's notice."""
POLL_SECONDS = 0.2
"""Seconds between checks whether a phase has ended."""


class ClusterMembership:
    """Holds the layout in force, which divides `nodes` at first, and adapts it to later nodes."""

    def __init__(
        self,
        nodes: tuple[Node, ...],
        layout: Layout,
        resources: Resources,
        workload: Workload,
        slots: TrainerSlots,
        fleet: Fleet,
        display: ProgressDisplay,
    ) -> None:
        self.layout = layout
        self.phase = Phase.TRAINING if layout.turns else None
        """The phase in force; None where all parts run side by side."""
        self._resources, self._workload = resources, workload
        self._slots, self._fleet, self._display = slots, fleet, display
        self._nodes = nodes
        self._changing = asyncio.Lock()

    @property
    def in_force(self) -> Layout:
        """The layout with only the places of the phase in force."""
        return self.layout.during(self.phase) if self.phase else self.layout

    async def enter(self, phase: Phase, evaluator: Evaluator) -> None:
        """End the processes of the other phase, then give this one its places.

        Running trials end first. Before training, nothing may be ready for evaluation.
        """
        async with self._changing:
            self.phase = phase
            self._slots.replace(())  # no trial starts until the layout has slots again
            while self._slots.living:
                await asyncio.sleep(POLL_SECONDS)
            await evaluator.use_layout(self.in_force)
            await self.place_scorers()
            while phase is Phase.TRAINING and not evaluator.engines_stopped:
                await asyncio.sleep(POLL_SECONDS)
            self._slots.replace(self.in_force.trainer_slots)

    async def watch(self, evaluator: Evaluator) -> None:
        """Check the nodes every `CHECK_EVERY` seconds until cancelled; adapt when they change."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            try:
                nodes = await asyncio.to_thread(staying_nodes)
                if nodes != self._nodes:
                    async with self._changing:
                        await self._adapt(nodes, evaluator)
            except Exception as e:  # running work continues; the next check may succeed
                self._display.notify(
                    "the layout could not be adapted to the cluster's nodes, "
                    f"will try again: {error_summary(e)}"
                )

    async def _adapt(self, nodes: tuple[Node, ...], evaluator: Evaluator) -> None:
        before = {node.name for node in self._nodes}
        now = {node.name for node in nodes}
        self.layout = layout = adapt(self.layout, nodes, self._resources, self._workload)
        self._slots.replace(self.in_force.trainer_slots)
        self._display.set_trainers(layout.trainers)
        engines = sum(len(slot.replicas) for slot in layout.engine_slots)
        self._display.notify(
            f"nodes: {len(now - before)} joined, {len(before - now)} left, {len(now)} in use; "
            f"room for {layout.trainers} trainer(s) and {engines} engine(s)"
            + ("" if layout.trainers and engines else "; waiting for nodes")
        )
        await evaluator.use_layout(self.in_force)
        await self.place_scorers()
        self._nodes = nodes  # last, so that a failure above is tried again at the next check

    async def place_scorers(self) -> None:
        """Place the replicas of every scorer where the layout has them, now or when they start."""
        for name, allocations in self.in_force.scorer_places.items():
            places = count_by_node(allocations)
            if not places and self.phase is Phase.TRAINING:
                await self._fleet.withdraw(name)
            for problem in await self._fleet.place(name, places):
                self._display.notify(problem)
