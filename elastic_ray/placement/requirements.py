"""Decides the CPUs and GPUs of each worker, engine replica and scorer replica on a cluster. Pure.

Where the spec leaves GPUs open, an engine gets as few as hold its weights and key-value cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..spec import Resources, Runtime, Serving, SpecError
from .bin_packing import Bundle
from .layout import SETUP_CPUS, EngineMemory, ResourceNeeds
from .nodes import Node

SMALL_CLUSTER_CPUS = 8
"""Up to this many CPUs in total, engines and scorers share cores."""
SMALL_ENGINE_CPUS = 0.25
"""CPUs of a replica on a small cluster, unless the spec sets them."""
SHARES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""GPUs that a replica may get if the spec sets none. Each divides the next, so no gaps are left."""
SCORER_GPUS = 0.25
"""Least GPU share of a scorer where nodes have GPUs."""
SEE = "(see training.workers, cpus_per_worker, gpus_per_worker, resources.engines)"


def resource_needs(
    nodes: Sequence[Node],
    runtime: Runtime,
    resources: Resources,
    engines: Mapping[str, EngineMemory],
) -> ResourceNeeds:
    """Return what each process needs on these nodes; `runtime.workers` must be a number.

    Raises `SpecError` naming the field if Ray cannot provide an amount.
    """
    workers = runtime.workers
    assert isinstance(workers, int), "decided before, by worker_count.settle_worker_count"
    gpus = runtime.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if any(node.gpus for node in nodes) else 0.0
    if workers > 1 and 0 < gpus < 1:
        raise SpecError(
            f"training.gpus_per_worker: found {gpus:g} with {workers} workers; "
            "workers that communicate over NCCL need a whole GPU each"
        )
    small = sum(node.cpus for node in nodes) <= SMALL_CLUSTER_CPUS
    cpus = _replica_cpus(resources.engines, small)
    needs = ResourceNeeds(
        Bundle(runtime.cpus_per_worker, gpus),
        workers,
        {
            name: Bundle(cpus, _engine_gpus(name, memory, resources.engines, nodes))
            for name, memory in engines.items()
        },
        Bundle(_replica_cpus(resources.scorers, small), _scorer_gpus(resources.scorers, nodes)),
    )
    for field, amount in (
        ("training.gpus_per_worker", gpus),
        ("resources.engines.gpus", max(each.gpus for each in needs.engines.values())),
        ("resources.scorers.gpus", needs.scorer.gpus),
    ):
        if amount > 1 and amount % 1:
            raise SpecError(f"{field}: found {amount:g}; above 1, it must be a whole number")
    return needs


def check_totals(
    nodes: Sequence[Node],
    needs: ResourceNeeds,
    engine: Bundle,
    trainers: int,
    engines: int,
    scorers: int,
) -> None:
    """Raise `SpecError` if so many trainers, replicas of `engine` and scorers exceed the cluster's
    CPUs or GPUs in total."""
    workers = trainers * needs.workers
    cpus = SETUP_CPUS + workers * needs.worker.cpus
    cpus += engines * engine.cpus + scorers * needs.scorer.cpus
    gpus = workers * needs.worker.gpus + engines * engine.gpus
    gpus += scorers * needs.scorer.gpus
    total_cpus, total_gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    if cpus > total_cpus + 1e-9 or gpus > total_gpus + 1e-9:
        raise SpecError(
            f"resources: {describe_parts(needs, engine, trainers, engines, scorers)} need "
            f"{cpus:.2f} CPUs and {gpus:g} GPUs; the cluster has {total_cpus:g} and "
            f"{total_gpus:g} {SEE}"
        )


def describe_parts(
    needs: ResourceNeeds, engine: Bundle, trainers: int, engines: int, scorers: int
) -> str:
    """Return text such as "1 trainer (2 x 1 CPU and 1 GPU) and 1 engine(s) of 1 CPU"."""
    parts = [f"1 trainer ({needs.workers} x {describe_bundle(needs.worker)})"] if trainers else []
    parts += [f"{engines} engine(s) of {describe_bundle(engine)}"] if engines else []
    parts += [f"{scorers} scorer(s) of {describe_bundle(needs.scorer)}"] if scorers else []
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def describe_bundle(need: Bundle) -> str:
    """Return the amounts as text, such as "4 CPU and 1 GPU"."""
    return f"{need.cpus:g} CPU" + (f" and {need.gpus:g} GPU" if need.gpus else "")


def _engine_gpus(name: str, memory: EngineMemory, engines: Serving, nodes: Sequence[Node]) -> float:
    """Return the GPUs of one replica: those of the spec, else the fewest that hold the model."""
    with_gpus = [node for node in nodes if node.gpus]
    split, requested = engines.tensor_parallel, engines.gpus
    if requested is None and split == 1 and with_gpus and memory.wanted and memory.weights:
        known = [node.gpu for node in with_gpus]
        smallest = min((gpu.memory if gpu else 0.0) for gpu in known) * engines.gpu_memory
        most = 1 if memory.one_gpu else max(node.gpus for node in with_gpus)
        if smallest:
            return _fewest_gpus(name, memory, smallest, engines.gpu_memory, most)
    if requested is None:
        requested = float(split) if with_gpus else 0.0
    if split > 1 and requested != split:
        raise SpecError(
            f"resources.engines.gpus: found {requested:g}; tensor_parallel {split} needs that many "
            "whole GPUs"
        )
    return requested


def _scorer_gpus(scorers: Serving, nodes: Sequence[Node]) -> float:
    """Return the GPUs of one scorer replica. vLLM for GPUs does not start without a share."""
    if scorers.gpus is not None:
        return scorers.gpus
    return SCORER_GPUS if any(node.gpus for node in nodes) else 0.0


def with_scorer_share(resources: Resources, gib: float | None, nodes: Sequence[Node]) -> Resources:
    """Return the resources with the GPU share of scorers decided, where the spec leaves it open.

    `gib` is the memory of the largest scorer in GiB, None if unknown; it gets the least share that
    holds it.
    """
    memory = [node.gpu.memory if node.gpu else 0.0 for node in nodes if node.gpus]
    if resources.scorers.gpus is not None or gib is None or not memory:
        return resources
    room = min(memory) * resources.scorers.gpu_memory
    shares = [share for share in SHARES if SCORER_GPUS <= share <= 1]
    share = next((share for share in shares if share * room >= gib), shares[-1])
    scorers = resources.scorers.model_copy(update={"gpus": share})
    return resources.model_copy(update={"scorers": scorers})


def _fewest_gpus(
    name: str, memory: EngineMemory, gpu_gib: float, gpu_memory: float, most: int
) -> float:
    """Return the fewest of `SHARES` with enough memory, at most `most`; the weights must fit."""
    choices = [share for share in SHARES if share <= most]
    enough = [share for share in choices if share * gpu_gib >= (memory.wanted or 0.0)]
    if enough:
        return enough[0]
    if choices[-1] * gpu_gib < (memory.weights or 0.0):
        raise SpecError(
            f"resources.engines: the weights of {name or 'the model'} take about "
            f"{memory.weights:.0f} GiB; "
            f"{choices[-1]:g} GPU(s) of a node offer {choices[-1] * gpu_gib:.0f} GiB; "
            f"take GPUs of {math.ceil((memory.weights or 0.0) / gpu_memory)} GiB or more"
        )
    return choices[-1]


def _replica_cpus(part: Serving, small: bool) -> float:
    """Return the CPUs of one replica; `small`: the cluster has few CPUs."""
    return part.cpus if part.cpus is not None else SMALL_ENGINE_CPUS if small else 1.0
