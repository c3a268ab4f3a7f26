"""Who runs where on a cluster: `lay_out` for the nodes it has, `adapt` when some come or go (pure).

A layout divides the nodes so that every trainer slot, every engine and scorer it promises has its
place *at the same time*: nothing that holds a resource ever waits for one that another holds, so
a sweep can neither deadlock nor starve, on 2 CPUs included. A trainer's workers are on one node
where they fit, on several where they must; an engine's GPUs are on one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..spec import Resources, Runtime, SpecError
from .bin_packing import Allocation, Bundle, FreeResources
from .layout import (
    SETUP_CPUS,
    EngineMemory,
    EngineSlot,
    Layout,
    ResourceNeeds,
    TrainerSlot,
    Workload,
    amount_of,
    cpus_of,
    engine_gpus,
)
from .nodes import Node, describe_nodes

SEE = "(see training.workers, cpus_per_worker, gpus_per_worker, resources.engines)"
TRAINERS_PER_ENGINE = 4
"""Beyond this another replica helps more than another trainer, where no estimate says it better:
answers would pile up."""


def lay_out(
    nodes: Sequence[Node],
    runtime: Runtime,
    resources: Resources,
    kinds: Mapping[str, EngineMemory],
    scorers: Sequence[str],
    work: Workload | None = None,
) -> Layout:
    """Divide the nodes among trainers, engines of these kinds, and scorers.

    `work`, where it is known, sets how many GPUs train and how many answer. Raises `SpecError`
    naming the field where even one of each, or what the spec asks for, has no room.
    """
    needs = _needs(nodes, runtime, resources, kinds or {"": EngineMemory()})
    division = Placer(nodes, needs, resources, work)
    division.begin(scorers)
    division.grow()
    return division.made()


def adapt(
    layout: Layout, nodes: Sequence[Node], resources: Resources, work: Workload | None
) -> Layout:
    """The layout after nodes came or went: what is on a node that is still there stays.

    What was lost with a node gets another place, if need be a trainer's, and new room is divided as
    ever. Where there is no room left for some part of it, it has no place until there is. A new
    node whose GPUs have less memory than those that engines were sized for is not used.
    """
    known = [gpu.memory for node in layout.nodes if (gpu := node.gpu)]
    there = {node.name for node in layout.nodes}
    usable = [
        node
        for node in nodes
        if node.name in there
        or not node.gpus
        or not known
        or ((gpu := node.gpu) is not None and gpu.memory >= min(known))
    ]
    division = Placer(usable, layout.needs, resources, work)
    division.keep(layout)
    division.grow()
    return division.made()


def _needs(
    nodes: Sequence[Node], runtime: Runtime, resources: Resources, kinds: Mapping[str, EngineMemory]
) -> ResourceNeeds:
    """What each part takes on this cluster; `SpecError` where Ray could not give it."""
    engines, judges = resources.engines, resources.scorers
    workers = runtime.workers
    assert isinstance(workers, int), "settled before (group_size)"
    gpus = runtime.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if any(node.gpus for node in nodes) else 0.0
    if workers > 1 and 0 < gpus < 1:
        raise SpecError(
            f"training.gpus_per_worker: found {gpus:g} with {workers} workers; "
            "workers that talk over NCCL need a GPU each"
        )
    small = sum(node.cpus for node in nodes) <= 8
    cpus = cpus_of(engines, small)
    needs = ResourceNeeds(
        Bundle(runtime.cpus_per_worker, gpus),
        workers,
        {
            name: Bundle(cpus, engine_gpus(name, kind, engines, nodes))
            for name, kind in kinds.items()
        },
        Bundle(cpus_of(judges, small), judges.gpus or 0.0),
    )
    for field, amount in (
        ("training.gpus_per_worker", gpus),
        ("resources.engines.gpus", max(each.gpus for each in needs.engines.values())),
        ("resources.scorers.gpus", needs.scorer.gpus),
    ):
        if amount > 1 and amount % 1:
            raise SpecError(f"{field}: found {amount:g}; above 1 only whole GPUs can be had")
    return needs


class Placer:
    """A layout while it grows: the room left, and what has its place."""

    def __init__(
        self,
        nodes: Sequence[Node],
        needs: ResourceNeeds,
        resources: Resources,
        work: Workload | None,
    ) -> None:
        self._nodes, self._needs = tuple(nodes), needs
        self._resources, self._work = resources, work
        self._room = FreeResources(nodes)
        self._fits_one_node = any(
            self._room.capacity_for(node.name, needs.worker) >= needs.workers for node in nodes
        )
        self._trainers: list[TrainerSlot] = []
        self._engines: list[list[Allocation]] = []
        self._own: bool | None = None
        """Whether every kind of engine has its own slot; None: not settled."""
        self._scorers: dict[str, list[Allocation]] = {}
        self._replicas = resources.engines.replicas or 1
        self._prepare: Allocation | None = None

    def made(self) -> Layout:
        """The layout as it is now."""
        kinds = self._needs.groups_by_size
        own = self._all_open(len(self._engines))
        slots = [
            EngineSlot((kinds[i],) if own else tuple(kinds), tuple(places))
            for i, places in enumerate(self._engines)
        ]
        return Layout(
            self._nodes,
            tuple(self._trainers),
            tuple(slots),
            {name: tuple(places) for name, places in self._scorers.items()},
            self._prepare,
            self._needs,
        )

    def begin(self, scorers: Sequence[str]) -> None:
        """Place what is asked for, or one of it: what needs the most GPUs on one node first."""
        each = self._resources.scorers.replicas or 1
        needs, engine = self._needs, self._slot_needs(1)[0]
        self._check_totals(engine, len(scorers) * each)
        at_once = needs.workers if self._fits_one_node else 1
        steps = [
            (needs.worker.gpus * at_once, needs.worker.cpus * at_once, "trainer"),
            (engine.gpus, engine.cpus * self._replicas, "engines"),
            (needs.scorer.gpus, needs.scorer.cpus, "scorers"),
        ]
        placed = self._add_prepare()
        for _, _, what in sorted(steps, reverse=True):
            if what == "trainer":
                placed = placed and self._add_trainer(spread=True)
            elif what == "engines":
                placed = placed and self._set_engines(1, self._replicas)
            else:
                for name in scorers:
                    placed = placed and self._fill_scorer(name, each)
        if not placed:
            raise SpecError(
                f"resources: one trainer ({needs.workers} x {amount_of(needs.worker)}), "
                f"{self._replicas} engine(s) of {amount_of(engine)} and {len(scorers) * each} "
                f"scorer(s) of {amount_of(needs.scorer)} have no room side by side on "
                f"{describe_nodes(self._nodes)} {SEE}"
            )
        wanted = self._resources.trainers or 1
        while len(self._trainers) < wanted:
            if not self._add_trainer(spread=True):
                raise SpecError(
                    f"resources.trainers: found {wanted}; beside {self._replicas} engine(s) and "
                    f"{len(scorers)} scorer(s) the cluster has room for {len(self._trainers)}"
                )

    def keep(self, layout: Layout) -> None:
        """Take over what is on nodes that are still there, and find places for what was lost."""
        there = {node.name for node in self._nodes}

        def left(taken: Sequence[Allocation]) -> list[Allocation]:
            return [each for each in taken if each.node in there]

        whole = [t for t in layout.trainer_slots if len(left(t.workers)) == len(t.workers)]
        self._trainers = whole
        self._engines = [left(slot.replicas) for slot in layout.engine_slots]
        self._own = all(len(slot.groups) == 1 for slot in layout.engine_slots)
        self._scorers = {name: left(places) for name, places in layout.scorer_places.items()}
        if layout.setup and layout.setup.node in there:
            self._prepare = layout.setup
        resources = self._resources
        self._replicas = resources.engines.replicas or layout.replicas
        self._room.reclaim(self.made().allocations())
        # One of each before anything else, and before trainers.
        for i, need in enumerate(self._slot_needs(len(self._engines))):
            self._make_room(partial(self._fill, self._engines[i], need, 1))
        for name in self._scorers:
            self._make_room(partial(self._fill_scorer, name, 1))
        if self._prepare is None:
            self._add_prepare()
        if not self._trainers:
            self._add_trainer(spread=True)
        each = resources.scorers.replicas or max(1, layout.scorer_replicas)
        for name in self._scorers:
            self._fill_scorer(name, each)
        for i, need in enumerate(self._slot_needs(len(self._engines))):
            self._fill(self._engines[i], need, self._replicas)
        # What was asked for comes back with its nodes.
        while len(self._trainers) < (resources.trainers or 0) and self._add_trainer(spread=True):
            pass

    def grow(self) -> None:
        """The rest grows in turns while there is room, so both sides of the pipeline get their
        share; a GPU that nothing else takes answers."""
        resources, kinds = self._resources, len(self._needs.engines)
        more_replicas = resources.engines.replicas is None
        growing = bool(self._trainers)
        while growing:
            growing = False
            opened = len(self._engines)
            if opened < kinds and self._set_engines(opened + 1, self._replicas):
                growing = True
            if more_replicas and self._crowded():
                more = self._set_engines(len(self._engines), self._replicas + 1)
                growing = growing or more
                if more and self._work is not None:
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

    def _all_open(self, opened: int) -> bool:
        return opened == len(self._needs.engines) if self._own is None else self._own

    def _slot_needs(self, opened: int) -> list[Bundle]:
        """What a replica needs, by slot: each kind its own if all are open, else that of the
        largest, so that any kind may take any slot."""
        kinds = self._needs.groups_by_size
        if self._all_open(opened):
            return [self._needs.engines[kind] for kind in kinds]
        return [self._needs.engines[kinds[0]]] * opened

    def _check_totals(self, engine: Bundle, scorers: int) -> None:
        """`SpecError` where the cluster as a whole has too little."""
        needs = self._needs
        cpus = SETUP_CPUS + needs.workers * needs.worker.cpus
        cpus += self._replicas * engine.cpus + scorers * needs.scorer.cpus
        gpus = needs.workers * needs.worker.gpus + self._replicas * engine.gpus
        gpus += scorers * needs.scorer.gpus
        has = sum(node.cpus for node in self._nodes), sum(node.gpus for node in self._nodes)
        if cpus > has[0] + 1e-9 or gpus > has[1] + 1e-9:
            raise SpecError(
                f"resources: one trainer, {self._replicas} engine(s) and {scorers} scorer(s) need "
                f"{cpus:.2f} CPUs and {gpus:g} GPUs; the cluster has {has[0]:g} and {has[1]:g} "
                f"{SEE}"
            )

    def _crowded(self) -> bool:
        """Whether another replica helps more than another trainer."""
        answering = sum(share for slot in self._engines for t in slot for _, share in t.gpus)
        trainers = len(self._trainers)
        if self._work is None or not answering:
            return trainers >= TRAINERS_PER_ENGINE * len(self._engines) * self._replicas
        return self._work.answering / answering > self._work.training / trainers

    def _make_room(self, placed: Callable[[], bool]) -> None:
        """Place something, if need be where the last trainers are."""
        while not placed() and self._trainers:
            self._room.release(self._trainers.pop().workers)

    def _add_prepare(self) -> bool:
        taken = self._room.allocate(Bundle(SETUP_CPUS))
        self._prepare = taken[0] if taken else None
        return taken is not None

    def _add_trainer(self, spread: bool) -> bool:
        need, count = self._needs.worker, self._needs.workers
        workers = self._room.allocate(need, count)
        if workers is None and spread:
            workers = self._room.allocate_spread(need, count)
        if workers is not None:
            self._trainers.append(TrainerSlot(workers))
        return workers is not None

    def _fill(self, places: list[Allocation], need: Bundle, count: int) -> bool:
        """Add places up to `count`, as far as there is room; whether there was."""
        while len(places) < count:
            taken = self._room.allocate(need)
            if taken is None:
                return False
            places += taken
        return True

    def _fill_scorer(self, name: str, count: int) -> bool:
        return self._fill(self._scorers.setdefault(name, []), self._needs.scorer, count)

    def _set_engines(self, opened: int, replicas: int) -> bool:
        """Give that many slots that many replicas each; False, and all as before, without room."""
        before, needs = self._engines, self._slot_needs(opened)
        kept = not before or needs[: len(before)] == self._slot_needs(len(before))
        after = [list(slot) if kept else [] for slot in before]
        after += [[] for _ in range(opened - len(before))]
        if not kept:
            self._room.release(t for slot in before for t in slot)
        if all(
            [self._fill(places, need, replicas) for places, need in zip(after, needs, strict=True)]
        ):
            self._engines, self._replicas = after, replicas
            return True
        had = before if kept else [[] for _ in before]
        new = [places[len(had[i]) if i < len(had) else 0 :] for i, places in enumerate(after)]
        self._room.release(t for places in new for t in places)
        if not kept:
            self._room.reclaim(t for slot in before for t in slot)
        return False
