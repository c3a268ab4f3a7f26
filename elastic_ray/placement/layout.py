"""The layout of a sweep on a cluster: which process runs on which node. Values only; pure.

`placer` computes layouts. Amounts are Ray's logical resources. On a small machine engines get a
fraction of a CPU each, so they share cores.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ..spec import Serving
from .bin_packing import Allocation, Bundle
from .nodes import Node

SETUP_CPUS = 0.1
"""CPUs of the short jobs that make start states and scorers, before engines have work."""


class Phase(enum.Enum):
    """What a layout whose parts take turns runs at a time."""

    TRAINING = "training"
    EVALUATION = "evaluation"


@dataclass(frozen=True)
class EngineMemory:
    """GPU memory of an engine group in GiB; None where the model's size is unknown.

    `weights` is the minimum, `wanted` adds a key-value cache for efficient batches. `one_gpu`: the
    engine cannot be split over GPUs.
    """

    weights: float | None = None
    wanted: float | None = None
    one_gpu: bool = False


@dataclass(frozen=True)
class Workload:
    """Estimated seconds of a sweep: `training` on one trainer, `answering` on one whole GPU."""

    training: float
    answering: float


@dataclass(frozen=True)
class TrainerSlot:
    """Resources for one trainer, one allocation per worker.

    The process that drives the workers needs none.
    """

    workers: tuple[Allocation, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The node of each worker."""
        return tuple(worker.node for worker in self.workers)


@dataclass(frozen=True)
class EngineSlot:
    """Resources for the replicas of one engine group at a time, any of `groups`."""

    groups: tuple[str, ...]
    replicas: tuple[Allocation, ...]

    @property
    def places(self) -> dict[str, int]:
        """Number of replicas by node."""
        return count_by_node(self.replicas)


@dataclass(frozen=True)
class ResourceNeeds:
    """What each process needs: a worker (`workers` per trainer), a replica of each engine group,
    and a replica of a scorer."""

    worker: Bundle
    workers: int
    engines: Mapping[str, Bundle]
    scorer: Bundle

    @property
    def uses_gpus(self) -> bool:
        """Whether a worker, an engine or a scorer uses a GPU or a part of one."""
        return any(need.gpus for need in (self.worker, self.scorer, *self.engines.values()))

    @property
    def groups_by_size(self) -> list[str]:
        """The engine groups, those with the most GPUs first."""
        return sorted(self.engines, key=lambda group: (-self.engines[group].gpus, group))


@dataclass(frozen=True)
class Layout:
    """Where trainers, engines and scorers run.

    All allocations fit on the nodes at the same time. Where `turns` is true, only those of one
    phase do: trainers, or engines and scorers.
    """

    nodes: tuple[Node, ...]
    trainer_slots: tuple[TrainerSlot, ...]
    engine_slots: tuple[EngineSlot, ...]
    scorer_places: Mapping[str, tuple[Allocation, ...]]
    setup: Allocation | None
    """Resources of the short setup jobs; None once their node has left."""
    needs: ResourceNeeds
    turns: bool = False

    def during(self, phase: Phase) -> Layout:
        """Return the layout with only the places of a phase; engine slots keep their index."""
        if phase is Phase.TRAINING:
            slots = tuple(replace(slot, replicas=()) for slot in self.engine_slots)
            return replace(
                self, engine_slots=slots, scorer_places=dict.fromkeys(self.scorer_places, ())
            )
        return replace(self, trainer_slots=())

    @property
    def trainers(self) -> int:
        """Number of trainers that run at the same time."""
        return len(self.trainer_slots)

    @property
    def open_groups(self) -> int:
        """Number of engine groups that run at the same time."""
        return len(self.engine_slots)

    @property
    def replicas(self) -> int:
        """Replicas of each engine group; after nodes left, of the group that has the most."""
        return max(len(slot.replicas) for slot in self.engine_slots)

    @property
    def scorer_replicas(self) -> int:
        """Replicas of each scorer; after nodes left, of the scorer that has the most."""
        return max(map(len, self.scorer_places.values()), default=0)

    def tensor_parallel(self, group: str) -> int:
        """Return the number of GPUs over which one engine of the group is split."""
        return max(1, round(self.needs.engines[group].gpus))

    def allocations(self) -> tuple[Allocation, ...]:
        """Return the resources of every process, as if all of them ran now."""
        trainers = [each for slot in self.trainer_slots for each in slot.workers]
        engines = [each for slot in self.engine_slots for each in slot.replicas]
        scorers = [each for places in self.scorer_places.values() for each in places]
        setup = [self.setup] if self.setup else []
        return (*setup, *trainers, *engines, *scorers)


def count_by_node(allocations: Iterable[Allocation]) -> dict[str, int]:
    """Return the number of allocations on each node that has any."""
    return dict(Counter(each.node for each in allocations))


def memory_share(part: Serving, gpus: float) -> float:
    """Return the share of a GPU's memory that vLLM may use when it has `gpus` of that GPU."""
    return part.gpu_memory * min(1.0, gpus) if gpus else part.gpu_memory
