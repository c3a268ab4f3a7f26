"""What runs side by side on a cluster, and on which of its nodes: the values (pure).

`laying_out` makes them. Amounts are Ray's logical resources; on a small machine engines get a
fraction of a CPU each and share cores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..spec import Serving, SpecError
from .bin_packing import Allocation, Bundle
from .nodes import Node

SETUP_CPUS = 0.1
"""Of the short tasks that make start states and scorers; they pass before engines are busy."""
SMALL_ENGINE_CPUS = 0.25
SHARES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""GPUs of one replica, where the spec does not say: they nest, so that shares leave no gaps."""


@dataclass(frozen=True)
class EngineMemory:
    """A kind of engine: the GPU memory (GiB) of its weights, and with a key-value cache for a good
    batch; None where its size is unknown. `one_gpu`: it cannot be split."""

    weights: float | None = None
    wanted: float | None = None
    one_gpu: bool = False


@dataclass(frozen=True)
class Workload:
    """Estimated seconds of a sweep's training on one trainer, of its answers on one whole GPU."""

    training: float
    answering: float


@dataclass(frozen=True)
class TrainerSlot:
    """A trainer slot: the place of each worker. The process that waits for them needs none."""

    workers: tuple[Allocation, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The node of each worker."""
        return tuple(worker.node for worker in self.workers)


@dataclass(frozen=True)
class EngineSlot:
    """Room for the replicas of one kind of engine, any of `kinds`, at a time."""

    groups: tuple[str, ...]
    replicas: tuple[Allocation, ...]

    @property
    def places(self) -> dict[str, int]:
        """Replicas by node."""
        return count_by_node(self.replicas)


@dataclass(frozen=True)
class ResourceNeeds:
    """What one of each takes: a worker (of so many in a trainer), a replica by kind of engine, a
    replica of a scorer."""

    worker: Bundle
    workers: int
    engines: Mapping[str, Bundle]
    scorer: Bundle

    @property
    def uses_gpus(self) -> bool:
        """Whether a worker, an engine or a scorer has one, or a part of one."""
        return any(need.gpus for need in (self.worker, self.scorer, *self.engines.values()))

    @property
    def groups_by_size(self) -> list[str]:
        """The kinds of engines, the largest first."""
        return sorted(self.engines, key=lambda kind: (-self.engines[kind].gpus, kind))


@dataclass(frozen=True)
class Layout:
    """The division of a cluster: who runs where."""

    nodes: tuple[Node, ...]
    trainer_slots: tuple[TrainerSlot, ...]
    engine_slots: tuple[EngineSlot, ...]
    scorer_places: Mapping[str, tuple[Allocation, ...]]
    setup: Allocation | None
    """Where the short tasks have their room; None once that node is gone: they find some."""
    needs: ResourceNeeds

    @property
    def trainers(self) -> int:
        """Worker groups at a time."""
        return len(self.trainer_slots)

    @property
    def open_groups(self) -> int:
        """Kinds of engines at a time."""
        return len(self.engine_slots)

    @property
    def replicas(self) -> int:
        """Replicas of each kind; after nodes went, of the kind that has the most."""
        return max(len(slot.replicas) for slot in self.engine_slots)

    @property
    def scorer_replicas(self) -> int:
        """Replicas of each scorer, likewise."""
        return max(map(len, self.scorer_places.values()), default=0)

    def tensor_parallel(self, kind: str) -> int:
        """GPUs over which one engine of the kind is split."""
        return max(1, round(self.needs.engines[kind].gpus))

    def allocations(self) -> tuple[Allocation, ...]:
        """Everything that is promised, as if all of it ran."""
        trainers = [t for slot in self.trainer_slots for t in slot.workers]
        engines = [t for slot in self.engine_slots for t in slot.replicas]
        scorers = [t for places in self.scorer_places.values() for t in places]
        prepare = [self.setup] if self.setup else []
        return (*prepare, *trainers, *engines, *scorers)


def count_by_node(taken: Iterable[Allocation]) -> dict[str, int]:
    """How many of them are on each node."""
    return dict(Counter(each.node for each in taken))


def memory_share(part: Serving, gpus: float) -> float:
    """The share of a GPU's memory that vLLM may take where it has `gpus` of it."""
    return part.gpu_memory * min(1.0, gpus) if gpus else part.gpu_memory


def engine_gpus(name: str, kind: EngineMemory, engines: Serving, nodes: Sequence[Node]) -> float:
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
                    f"resources.engines: the weights of {name or 'the model'} take about "
                    f"{kind.weights:.0f} GiB; "
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


def amount_of(need: Bundle) -> str:
    """What one process needs, in words."""
    return f"{need.cpus:g} CPU" + (f" and {need.gpus:g} GPU" if need.gpus else "")


def cpus_of(part: Serving, small: bool) -> float:
    """CPUs of one replica."""
    return part.cpus if part.cpus is not None else SMALL_ENGINE_CPUS if small else 1.0
