"""Computes layouts: `lay_out` for a cluster's nodes, `adapt` after nodes joined or left. Pure.

All trainers, engines and scorers of a layout have their resources *at the same time*. No process
that holds a resource waits for one that another process holds, so a sweep can neither deadlock nor
starve, even on 2 CPUs. A trainer's workers are on one node if they fit there, else on several; the
GPUs of an engine are always on one node.

A placer can also compute one phase of a layout whose parts take turns (`sharing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from ..spec import Resources, Runtime, SpecError
from .bin_packing import Allocation, Bundle, FreeResources
from .layout import (
    SETUP_CPUS,
    EngineMemory,
    EngineSlot,
    Layout,
    Phase,
    ResourceNeeds,
    TrainerSlot,
    Workload,
)
from .nodes import Node, describe_nodes
from .requirements import SEE, check_totals, describe_parts, resource_needs

TRAINERS_PER_ENGINE = 4
"""Without a workload estimate, trainers per engine replica. With more trainers than this, states
would wait for their answers."""


def lay_out(
    nodes: Sequence[Node],
    runtime: Runtime,
    resources: Resources,
    engines: Mapping[str, EngineMemory],
    scorers: Sequence[str],
    workload: Workload | None = None,
) -> Layout:
    """Return a layout of trainers, these engine groups, and these scorers on the nodes.

    `runtime.workers` must be a number. `workload`, if known, decides how many GPUs train and how
    many answer. Raises `SpecError` naming the field if one of each, or what the spec requests, does
    not fit.
    """
    needs = resource_needs(nodes, runtime, resources, engines or {"": EngineMemory()})
    placer = Placer(nodes, needs, resources, workload)
    placer.place_minimum(scorers)
    placer.fill()
    return placer.layout()


def adapt(
    layout: Layout, nodes: Sequence[Node], resources: Resources, workload: Workload | None
) -> Layout:
    """Return the layout after nodes joined or left; processes on remaining nodes stay in place.

    Engines and scorers that were lost with a node get another place, if necessary that of a
    trainer. Free resources are then divided as in `lay_out`. A process for which nothing is free
    has no place until something is. A new node whose GPUs have less memory than those that engines
    were sized for is not used.
    """
    known = [gpu.memory for node in layout.nodes if (gpu := node.gpu)]
    before = {node.name for node in layout.nodes}
    usable = [
        node
        for node in nodes
        if node.name in before
        or not node.gpus
        or not known
        or ((gpu := node.gpu) is not None and gpu.memory >= min(known))
    ]

    def restored(phase: Phase | None) -> Layout:
        placer = Placer(usable, layout.needs, resources, workload, phase)
        placer.restore(layout.during(phase) if phase else layout)
        placer.fill()
        return placer.layout()

    if layout.turns:
        return in_turns(restored(Phase.TRAINING), restored(Phase.EVALUATION))
    return restored(None)


def in_turns(training: Layout, evaluation: Layout) -> Layout:
    """Return the layout that has the one's trainers and the other's engines and scorers."""
    return replace(evaluation, trainer_slots=training.trainer_slots, turns=True)


class Placer:
    """A layout under construction: the free resources, and the processes placed so far.

    With a phase it places only trainers, or only engines and scorers.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        needs: ResourceNeeds,
        resources: Resources,
        workload: Workload | None,
        phase: Phase | None = None,
    ) -> None:
        self._nodes, self._needs = tuple(nodes), needs
        self._trains = phase is not Phase.EVALUATION
        self._evaluates = phase is not Phase.TRAINING
        self._resources, self._workload = resources, workload
        self._free = FreeResources(nodes)
        self._fits_one_node = any(
            self._free.capacity_for(node.name, needs.worker) >= needs.workers for node in nodes
        )
        self._trainers: list[TrainerSlot] = []
        self._engines: list[list[Allocation]] = []
        self._dedicated: bool | None = None
        """Whether each engine group has a slot of its own; None: not decided yet."""
        self._scorers: dict[str, list[Allocation]] = {}
        self._replicas = resources.engines.replicas or 1
        self._setup: Allocation | None = None

    def layout(self) -> Layout:
        """Return the layout as it is now."""
        groups = self._needs.groups_by_size
        dedicated = self._has_slot_each(len(self._engines))
        slots = [
            EngineSlot((groups[i],) if dedicated else tuple(groups), tuple(places))
            for i, places in enumerate(self._engines)
        ]
        return Layout(
            self._nodes,
            tuple(self._trainers),
            tuple(slots),
            {name: tuple(places) for name, places in self._scorers.items()},
            self._setup,
            self._needs,
        )

    def place_minimum(self, scorers: Sequence[str]) -> None:
        """Place the numbers that the spec requests, or one of each; raise `SpecError` without room.

        What needs the most GPUs on one node is placed first.
        """
        each = self._resources.scorers.replicas or 1
        needs, engine = self._needs, self._slot_needs(1)[0]
        if not self._evaluates:
            scorers = ()
        counts = (int(self._trains), self._replicas if self._evaluates else 0, len(scorers) * each)
        check_totals(self._nodes, needs, engine, *counts)
        at_once = needs.workers if self._fits_one_node else 1
        steps = [
            (needs.worker.gpus * at_once, needs.worker.cpus * at_once, "trainer"),
            (engine.gpus, engine.cpus * self._replicas, "engines"),
            (needs.scorer.gpus, needs.scorer.cpus, "scorers"),
        ]
        placed = self._add_setup()
        for _, _, what in sorted(steps, reverse=True):
            if what == "trainer" and self._trains:
                placed = placed and self._add_trainer(spread=True)
            elif what == "engines" and self._evaluates:
                placed = placed and self._set_engines(1, self._replicas)
            elif what == "scorers":
                for name in scorers:
                    placed = placed and self._fill_scorer(name, each)
        if not placed:
            raise SpecError(
                f"resources: {describe_parts(needs, engine, *counts)} "
                f"do not fit at the same time on {describe_nodes(self._nodes)} {SEE}"
            )
        requested = (self._resources.trainers or 1) if self._trains else 0
        while len(self._trainers) < requested:
            if not self._add_trainer(spread=True):
                raise SpecError(
                    f"resources.trainers: found {requested}; in addition to {counts[1]} "
                    f"engine(s) and {counts[2]} scorer(s), the cluster has room for "
                    f"{len(self._trainers)}"
                )

    def restore(self, layout: Layout) -> None:
        """Take over what is on nodes that remain, and find new places for what was lost."""
        remaining = {node.name for node in self._nodes}

        def left(allocations: Sequence[Allocation]) -> list[Allocation]:
            return [each for each in allocations if each.node in remaining]

        self._trainers = [
            slot for slot in layout.trainer_slots if len(left(slot.workers)) == len(slot.workers)
        ]
        self._engines = [left(slot.replicas) for slot in layout.engine_slots]
        self._dedicated = all(len(slot.groups) == 1 for slot in layout.engine_slots)
        self._scorers = {name: left(places) for name, places in layout.scorer_places.items()}
        if layout.setup and layout.setup.node in remaining:
            self._setup = layout.setup
        resources = self._resources
        self._replicas = resources.engines.replicas or layout.replicas
        self._free.reclaim(self.layout().allocations())
        # One engine of each group and one scorer of each kind come before any trainer.
        if self._evaluates:
            for i, need in enumerate(self._slot_needs(len(self._engines))):
                self._make_room(partial(self._fill, self._engines[i], need, 1))
            for name in self._scorers:
                self._make_room(partial(self._fill_scorer, name, 1))
        if self._setup is None:
            self._add_setup()
        if not self._trainers and self._trains:
            self._add_trainer(spread=True)
        if self._evaluates:
            each = resources.scorers.replicas or max(1, layout.scorer_replicas)
            for name in self._scorers:
                self._fill_scorer(name, each)
            for i, need in enumerate(self._slot_needs(len(self._engines))):
                self._fill(self._engines[i], need, self._replicas)
        # The number of trainers that the spec requests is restored when nodes return.
        requested = (resources.trainers or 0) if self._trains else 0
        while len(self._trainers) < requested and self._add_trainer(spread=True):
            pass

    def fill(self) -> None:
        """Use the free resources: add trainers and engine replicas in turns.

        So both sides of the pipeline grow. GPUs that no trainer can use go to engine replicas.
        """
        resources, groups = self._resources, len(self._needs.engines)
        more_replicas = resources.engines.replicas is None and self._evaluates
        if not self._trains:
            self._fill_with_engines(more_replicas)
        growing = bool(self._trainers)
        while growing:
            growing = False
            opened = len(self._engines)
            more_slots = self._evaluates and opened < groups
            if more_slots and self._set_engines(opened + 1, self._replicas):
                growing = True
            if more_replicas and self._needs_engines():
                more = self._set_engines(len(self._engines), self._replicas + 1)
                growing = growing or more
                if more and self._workload is not None:
                    continue
            if resources.trainers is None:
                growing = self._add_trainer(spread=not self._fits_one_node) or growing
        on_gpu = any(need.gpus for need in self._needs.engines.values())
        while (
            more_replicas
            and on_gpu
            and self._replicas < len(self._trainers)
            and self._set_engines(len(self._engines), self._replicas + 1)
        ):
            pass

    def _fill_with_engines(self, more_replicas: bool) -> None:
        """Open further engine slots, and add replicas up to one per GPU: no trainer needs room."""
        groups, gpus = len(self._needs.engines), sum(node.gpus for node in self._nodes)
        while len(self._engines) < groups and self._set_engines(
            len(self._engines) + 1, self._replicas
        ):
            pass
        on_gpu = any(need.gpus for need in self._needs.engines.values())
        while (
            more_replicas
            and on_gpu
            and len(self._engines) * (self._replicas + 1) <= gpus
            and self._set_engines(len(self._engines), self._replicas + 1)
        ):
            pass

    def _has_slot_each(self, opened: int) -> bool:
        """Whether, with `opened` slots, every engine group has a slot of its own."""
        return opened == len(self._needs.engines) if self._dedicated is None else self._dedicated

    def _slot_needs(self, opened: int) -> list[Bundle]:
        """Return the needs of a replica by slot: those of its group if each group has a slot, else
        those of the largest group, so that any group fits any slot."""
        groups = self._needs.groups_by_size
        if self._has_slot_each(opened):
            return [self._needs.engines[group] for group in groups]
        return [self._needs.engines[groups[0]]] * opened

    def _needs_engines(self) -> bool:
        """Whether one more engine replica helps more than one more trainer."""
        answering = sum(share for slot in self._engines for t in slot for _, share in t.gpus)
        trainers = len(self._trainers)
        if self._workload is None or not answering:
            return trainers >= TRAINERS_PER_ENGINE * len(self._engines) * self._replicas
        return self._workload.answering / answering > self._workload.training / trainers

    def _make_room(self, placed: Callable[[], bool]) -> None:
        """Call `placed` until it succeeds, removing the most recently added trainer each time."""
        while not placed() and self._trainers:
            self._free.release(self._trainers.pop().workers)

    def _add_setup(self) -> bool:
        taken = self._free.allocate(Bundle(SETUP_CPUS))
        self._setup = taken[0] if taken else None
        return taken is not None

    def _add_trainer(self, spread: bool) -> bool:
        need, count = self._needs.worker, self._needs.workers
        workers = self._free.allocate(need, count)
        if workers is None and spread:
            workers = self._free.allocate_spread(need, count)
        if workers is not None:
            self._trainers.append(TrainerSlot(workers))
        return workers is not None

    def _fill(self, places: list[Allocation], need: Bundle, count: int) -> bool:
        """Add places up to `count` as far as there is room; return whether all fitted."""
        while len(places) < count:
            taken = self._free.allocate(need)
            if taken is None:
                return False
            places += taken
        return True

    def _fill_scorer(self, name: str, count: int) -> bool:
        return self._fill(self._scorers.setdefault(name, []), self._needs.scorer, count)

    def _set_engines(self, opened: int, replicas: int) -> bool:
        """Give each of `opened` slots `replicas` replicas.

        Returns False, with nothing changed, if they do not fit.
        """
        before, needs = self._engines, self._slot_needs(opened)
        kept = not before or needs[: len(before)] == self._slot_needs(len(before))
        after = [list(slot) if kept else [] for slot in before]
        after += [[] for _ in range(opened - len(before))]
        if not kept:
            self._free.release(t for slot in before for t in slot)
        if all(
            [self._fill(places, need, replicas) for places, need in zip(after, needs, strict=True)]
        ):
            self._engines, self._replicas = after, replicas
            return True
        previous = before if kept else [[] for _ in before]
        new = [
            places[len(previous[i]) if i < len(previous) else 0 :] for i, places in enumerate(after)
        ]
        self._free.release(t for places in new for t in places)
        if not kept:
            self._free.reclaim(t for slot in before for t in slot)
        return False
