"""What runs side by side on a cluster, and on which of its nodes (pure).

`lay_out` divides the nodes so that every trainer slot, every engine and scorer it promises has its
place *at the same time*: nothing that holds a resource ever waits for one that another holds, so
a sweep can neither deadlock nor starve, on 2 CPUs included. A trainer's workers are on one node
where they fit, on several where they must; an engine's GPUs are on one. Amounts are Ray's logical
resources; on a small machine engines get a fraction of a CPU each and share cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .nodes import Node, told
from .packing import Need, Room, Taken
from .spec import Resources, Runtime, Serving, SpecError

DRIVER_CPUS = 0.01
"""Of a Tune trial's own process, which only waits for its worker group."""
PREPARE_CPUS = 0.1
"""Of the short tasks that make start states and scorers; they pass before engines are busy."""
SMALL_ENGINE_CPUS = 0.25
TRAINERS_PER_ENGINE = 4
"""Beyond this another replica helps more than another trainer, where no estimate says it better:
answers would pile up."""
SHARES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""GPUs of one replica, where the spec does not say: they nest, so that shares leave no gaps."""


@dataclass(frozen=True)
class Kind:
    """A kind of engine: the GPU memory (GiB) of its weights, and with a key-value cache for a good
    batch; None where its size is unknown. `one_gpu`: it cannot be split."""

    weights: float | None = None
    wanted: float | None = None
    one_gpu: bool = False


@dataclass(frozen=True)
class Work:
    """Estimated seconds of a sweep's training on one trainer, of its answers on one whole GPU."""

    training: float
    answering: float


@dataclass(frozen=True)
class Trainer:
    """A trainer slot: the place of its trial's own process, and of each worker."""

    driver: Taken
    workers: tuple[Taken, ...]


@dataclass(frozen=True)
class EngineSlot:
    """Room for the replicas of one kind of engine, any of `kinds`, at a time."""

    kinds: tuple[str, ...]
    replicas: tuple[Taken, ...]


@dataclass(frozen=True)
class Layout:
    """The division of a cluster: who runs where.

    An engine's replica takes `engine_cpus` and, by its kind, `engine_gpus`.
    """

    nodes: tuple[Node, ...]
    trainer_slots: tuple[Trainer, ...]
    engine_slots: tuple[EngineSlot, ...]
    scorer_places: Mapping[str, tuple[Taken, ...]]
    prepare: Taken
    workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    engine_cpus: float
    engine_gpus: Mapping[str, float]
    scorer_cpus: float
    scorer_gpus: float

    @property
    def trainers(self) -> int:
        """Worker groups at a time."""
        return len(self.trainer_slots)

    @property
    def open_engines(self) -> int:
        """Kinds of engines at a time."""
        return len(self.engine_slots)

    @property
    def replicas(self) -> int:
        """Replicas of each kind."""
        return len(self.engine_slots[0].replicas)

    @property
    def scorer_replicas(self) -> int:
        """Replicas of each scorer."""
        return len(next(iter(self.scorer_places.values())))

    def tensor_parallel(self, kind: str) -> int:
        """GPUs over which one engine of the kind is split."""
        return max(1, round(self.engine_gpus[kind]))

    def taken(self) -> tuple[Taken, ...]:
        """Everything that is promised, as if all of it ran."""
        trainers = [t for slot in self.trainer_slots for t in (slot.driver, *slot.workers)]
        engines = [t for slot in self.engine_slots for t in slot.replicas]
        scorers = [t for places in self.scorer_places.values() for t in places]
        return (self.prepare, *trainers, *engines, *scorers)


def lay_out(
    nodes: Sequence[Node],
    runtime: Runtime,
    resources: Resources,
    kinds: Mapping[str, Kind],
    scorers: Sequence[str],
    work: Work | None = None,
) -> Layout:
    """Divide the nodes among trainers, engines of these kinds, and scorers.

    `work`, where it is known, sets how many GPUs train and how many answer. Raises `SpecError`
    naming the field where even one of each, or what the spec asks for, has no room.
    """
    return _Division(nodes, runtime, resources, kinds or {"": Kind()}, scorers or ("",), work).made


class _Division:
    """A layout while it grows: the room left, and what has its place."""

    def __init__(
        self,
        nodes: Sequence[Node],
        runtime: Runtime,
        resources: Resources,
        kinds: Mapping[str, Kind],
        scorers: Sequence[str],
        work: Work | None,
    ) -> None:
        engines, judges = resources.engines, resources.scorers
        self._nodes, self._resources, self._work = tuple(nodes), resources, work
        self._cpus, self._gpus = sum(n.cpus for n in nodes), sum(n.gpus for n in nodes)
        gpus = runtime.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if self._gpus else 0.0
        if runtime.workers > 1 and 0 < gpus < 1:
            raise SpecError(
                f"training.gpus_per_worker: found {gpus:g} with {runtime.workers} workers; "
                "workers that talk over NCCL need a GPU each"
            )
        small = self._cpus <= 8
        self._worker = Need(runtime.cpus_per_worker, gpus)
        self._workers = runtime.workers
        engine_cpus = _cpus(engines, small)
        self._sizes = {
            kind: Need(engine_cpus, _engine_gpus(name_of(kind), each, engines, nodes))
            for kind, each in kinds.items()
        }
        self._judge = Need(_cpus(judges, small), judges.gpus or 0.0)
        for field, amount in (
            ("training.gpus_per_worker", gpus),
            ("resources.engines.gpus", max(size.gpus for size in self._sizes.values())),
            ("resources.scorers.gpus", self._judge.gpus),
        ):
            if amount > 1 and amount % 1:
                raise SpecError(f"{field}: found {amount:g}; above 1 only whole GPUs can be had")
        self._room = Room(nodes)
        # One that must be spread whatever is free, may be spread where that uses what is left.
        empty = Room(nodes)
        self._fits_one_node = any(
            empty.fitting(node.name, self._worker) >= self._workers for node in nodes
        )
        self._trainers: list[Trainer] = []
        self._engines: list[list[Taken]] = []
        self._scorers: dict[str, tuple[Taken, ...]] = {}
        self._replicas = engines.replicas or 1
        self._place_least(scorers, judges.replicas or 1)
        self._grow()
        own = len(self._engines) == len(self._sizes)
        by_size = self._by_size()
        slots = [
            EngineSlot((by_size[i],) if own else tuple(by_size), tuple(places))
            for i, places in enumerate(self._engines)
        ]
        self.made = Layout(
            self._nodes,
            tuple(self._trainers),
            tuple(slots),
            self._scorers,
            self._prepare,
            self._workers,
            self._worker.cpus,
            self._worker.gpus,
            engine_cpus,
            {kind: size.gpus for kind, size in self._sizes.items()},
            self._judge.cpus,
            self._judge.gpus,
        )

    def _by_size(self) -> list[str]:
        """The kinds of engines, the largest first."""
        return sorted(self._sizes, key=lambda kind: (-self._sizes[kind].gpus, kind))

    def _needs(self, opened: int) -> list[Need]:
        """What a replica needs, by slot: each kind its own if all are open, else that of the
        largest, so that any kind may take any slot."""
        by_size = self._by_size()
        if opened == len(by_size):
            return [self._sizes[kind] for kind in by_size]
        return [self._sizes[by_size[0]]] * opened

    def _place_least(self, scorers: Sequence[str], each: int) -> None:
        """Place what is asked for, or one of it: what needs the most GPUs on one node first."""
        wanted = self._resources.trainers or 1
        engine = self._needs(1)[0]
        self._check_totals(1, engine, len(scorers) * each)
        spread_out = not self._fits_one_node
        at_once = 1 if spread_out else self._workers
        steps = [
            (self._worker.gpus * at_once, self._worker.cpus * at_once, "trainers"),
            (engine.gpus, engine.cpus * self._replicas, "engines"),
            (self._judge.gpus, self._judge.cpus, "scorers"),
        ]
        prepare = self._room.take(Need(PREPARE_CPUS))
        placed = prepare is not None
        for _, _, what in sorted(steps, reverse=True):
            if what == "trainers":
                placed = placed and self._add_trainer(spread=True)
            elif what == "engines":
                placed = placed and self._set_engines(1, self._replicas)
            else:
                for name in scorers:
                    taken = [self._room.take(self._judge) for _ in range(each)]
                    placed = placed and None not in taken
                    self._scorers[name] = tuple(t for one in taken if one for t in one)
        if not placed or prepare is None:
            raise SpecError(
                f"resources: one trainer ({self._workers} x {_amount(self._worker)}), "
                f"{self._replicas} engine(s) of {_amount(engine)} and {len(scorers) * each} "
                f"scorer(s) of {_amount(self._judge)} have no room side by side on "
                f"{told(self._nodes)} (see training.workers, cpus_per_worker, gpus_per_worker, "
                "resources.engines)"
            )
        self._prepare = prepare[0]
        while self.trainers < wanted:
            if not self._add_trainer(spread=True):
                raise SpecError(
                    f"resources.trainers: found {wanted}; beside {self._replicas} engine(s) and "
                    f"{len(scorers)} scorer(s) the cluster has room for {self.trainers}"
                )

    def _check_totals(self, trainers: int, engine: Need, scorers: int) -> None:
        """`SpecError` where the cluster as a whole has too little."""
        cpus = (
            PREPARE_CPUS
            + DRIVER_CPUS
            + self._workers * self._worker.cpus
            + self._replicas * engine.cpus
            + scorers * self._judge.cpus
        )
        gpus = self._workers * self._worker.gpus + self._replicas * engine.gpus
        gpus += scorers * self._judge.gpus
        if cpus > self._cpus + 1e-9 or gpus > self._gpus + 1e-9:
            raise SpecError(
                f"resources: one trainer, {self._replicas} engine(s) and {scorers} scorer(s) need "
                f"{cpus:.2f} CPUs and {gpus:g} GPUs; the cluster has {self._cpus:g} and "
                f"{self._gpus:g} (see training.workers, cpus_per_worker, gpus_per_worker, "
                "resources.engines)"
            )

    def _grow(self) -> None:
        """The rest grows in turns while there is room, so both sides of the pipeline get their
        share; a GPU that nothing else takes answers."""
        resources = self._resources
        more_replicas = resources.engines.replicas is None
        growing = True
        while growing:
            growing = False
            opened = len(self._engines)
            if opened < len(self._sizes) and self._set_engines(opened + 1, self._replicas):
                growing = True
            if more_replicas and self._crowded():
                more = self._set_engines(len(self._engines), self._replicas + 1)
                growing = growing or more
                if more and self._work is not None:
                    continue
            if resources.trainers is None:
                growing = self._add_trainer(spread=not self._fits_one_node) or growing
        on_gpu = any(size.gpus for size in self._sizes.values())
        while (
            more_replicas
            and on_gpu
            and self._replicas < self.trainers
            and self._set_engines(len(self._engines), self._replicas + 1)
        ):
            pass

    @property
    def trainers(self) -> int:
        return len(self._trainers)

    def _crowded(self) -> bool:
        """Whether another replica helps more than another trainer."""
        answering = sum(share for slot in self._engines for t in slot for _, share in t.gpus)
        if self._work is None or not answering:
            return self.trainers >= TRAINERS_PER_ENGINE * len(self._engines) * self._replicas
        return self._work.answering / answering > self._work.training / self.trainers

    def _add_trainer(self, spread: bool) -> bool:
        workers = self._room.take(self._worker, self._workers)
        if workers is None and spread:
            workers = self._room.spread(self._worker, self._workers)
        if workers is None:
            return False
        driver = self._room.take(Need(DRIVER_CPUS))
        if driver is None:
            self._room.give_back(workers)
            return False
        self._trainers.append(Trainer(driver[0], workers))
        return True

    def _set_engines(self, opened: int, replicas: int) -> bool:
        """Give that many slots that many replicas each; False, and all as before, without room."""
        before, needs = self._engines, self._needs(opened)
        kept = needs[: len(before)] == self._needs(len(before)) if before else True
        after = [list(slot) for slot in before] if kept else []
        if not kept:
            self._room.give_back(t for slot in before for t in slot)
        new: list[Taken] = []
        for i, need in enumerate(needs):
            if i == len(after):
                after.append([])
            while len(after[i]) < replicas:
                taken = self._room.take(need)
                if taken is None:
                    self._room.give_back(new)
                    if not kept:
                        self._room.put(t for slot in before for t in slot)
                    return False
                new += taken
                after[i] += taken
        self._engines, self._replicas = after, replicas
        return True


def memory_share(part: Serving, gpus: float) -> float:
    """The share of a GPU's memory that vLLM may take where it has `gpus` of it."""
    return part.gpu_memory * min(1.0, gpus) if gpus else part.gpu_memory


def _engine_gpus(name: str, kind: Kind, engines: Serving, nodes: Sequence[Node]) -> float:
    """The GPUs of one replica: as the spec says, else as few as hold the model and its cache."""
    with_gpus = [node for node in nodes if node.gpus]
    split, asked = engines.tensor_parallel, engines.gpus
    if asked is None and split == 1 and with_gpus and kind.wanted and kind.weights:
        known = [node.gpu for node in with_gpus]
        smallest = min((gpu.memory if gpu else 0.0) for gpu in known) * engines.gpu_memory
        most = 1 if kind.one_gpu else max(node.gpus for node in with_gpus)
        if smallest:
            choices = [share for share in SHARES if share <= most]
            enough = [share for share in choices if share * smallest >= kind.wanted]
            if enough:
                return enough[0]
            if choices[-1] * smallest < kind.weights:
                raise SpecError(
                    f"resources.engines: {name} weights take about {kind.weights:.0f} GiB; "
                    f"{choices[-1]:g} GPU(s) of a node offer {choices[-1] * smallest:.0f} GiB"
                )
            return choices[-1]
    if asked is None:
        asked = float(split) if with_gpus else 0.0
    if split > 1 and asked != split:
        raise SpecError(
            f"resources.engines.gpus: found {asked:g}; tensor_parallel {split} needs that many "
            "whole GPUs"
        )
    return asked


def name_of(kind: str) -> str:
    """What messages call a kind of engine."""
    return f"{kind}'s" if kind else "the model's"


def _amount(need: Need) -> str:
    return f"{need.cpus:g} CPU" + (f" and {need.gpus:g} GPU" if need.gpus else "")


def _cpus(part: Serving, small: bool) -> float:
    return part.cpus if part.cpus is not None else SMALL_ENGINE_CPUS if small else 1.0
