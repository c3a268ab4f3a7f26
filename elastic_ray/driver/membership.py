"""Adapts a running sweep to nodes that join or leave the cluster, and to the phase it is in.

Trainer slots, engines and scorers get new places. Work on nodes that stay keeps running. Where the
layout's parts take turns (`turns` decides when), only those of the phase have places.
"""

from __future__ import annotations

import asyncio

from ..cluster.ray_cluster import staying_nodes
from ..evaluation.evaluator import Evaluator
from ..placement import Layout, Node, Phase, Workload, adapt, count_by_node, lend_engines
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
        """The layout with only what has a place in the phase in force."""
        if self.phase is Phase.TRAINING:
            return lend_engines(self.layout, self._resources, self._workload)
        return self.layout.during(self.phase) if self.phase else self.layout

    @property
    def lends(self) -> bool:
        """Whether more trainers could run in the places of engines and scorers."""
        lent = lend_engines(self.layout, self._resources, self._workload)
        return lent.trainers > self.layout.trainers

    async def enter(self, phase: Phase | None, evaluator: Evaluator) -> bool:
        """Have the places of another phase; what must make room ends first.

        Trials run to their end. Returns False if something became ready for evaluation before the
        engines had stopped; training gets no more places then.
        """
        async with self._changing:
            self.phase = phase
            layout = self.in_force
            if phase is Phase.TRAINING:
                await self._evaluate_in(layout, evaluator)
                while not evaluator.engines_stopped and evaluator.idle:
                    await asyncio.sleep(POLL_SECONDS)
                if not evaluator.engines_stopped:
                    return False
                self._slots.replace(layout.trainer_slots)
            else:
                self._slots.replace(layout.trainer_slots)
                while self._slots.surplus:
                    await asyncio.sleep(POLL_SECONDS)
                await self._evaluate_in(layout, evaluator)
            return True

    async def _evaluate_in(self, layout: Layout, evaluator: Evaluator) -> None:
        await evaluator.use_layout(layout)
        await self.place_scorers()

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
        await self._evaluate_in(self.in_force, evaluator)
        self._nodes = nodes  # last, so that a failure above is tried again at the next check

    async def place_scorers(self) -> None:
        """Place the replicas of every scorer where the layout has them, now or when they start."""
        for name, allocations in self.in_force.scorer_places.items():
            places = count_by_node(allocations)
            if not places and self.phase is Phase.TRAINING:
                await self._fleet.withdraw(name)
            for problem in await self._fleet.place(name, places):
                self._display.notify(problem)
