"""Decides the number of workers of a trainer where the spec says `auto` or gives a range. Pure.

Any number of workers trains the same states, because micro batches are taken from whole global
batches. So the choice is the fewest workers that hold the model in memory, and more only if fewer
ladders can train at a time than the cluster has trainer slots. There are never more workers than
examples in a global batch: they would be idle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..spec import Resources, Runtime, SpecError
from .layout import EngineMemory
from .nodes import Node
from .settings import FILLED, worker_gpu_gib
from .sharing import fit


@dataclass(frozen=True)
class LadderProfile:
    """The properties of a plan's ladders that the number of workers depends on.

    `batch` is the smallest global batch, `at_once` the number of ladders that may train at the same
    time. `gib(workers, offloading)` is the least GPU memory of each worker in GiB that the spec's
    other settings allow, None if unknown; without `offloading`, `offload: auto` does not offload.
    """

    batch: int
    at_once: int
    gib: Callable[[int, bool], float | None]


def settle_worker_count(
    runtime: Runtime,
    ladders: LadderProfile,
    nodes: Sequence[Node],
    resources: Resources,
    engines: Mapping[str, EngineMemory],
    scorers: Sequence[str],
) -> Runtime:
    """Return the runtime with `workers` as a number; a number in the spec is not changed.

    Raises `SpecError` for a range that starts beyond the global batch, or as `fit` does.
    """
    if isinstance(runtime.workers, int):
        return runtime
    low, high = (1, ladders.batch) if runtime.workers == "auto" else runtime.workers
    if low > ladders.batch:
        raise SpecError(
            f"training.workers: found {low} to {high}; the smallest global_batch is "
            f"{ladders.batch}, and each worker needs an example of every batch"
        )
    high = min(high, ladders.batch)
    fewest = _fewest_that_fit(low, high, runtime, ladders, nodes)

    def trainers(workers: int) -> int:
        candidate = runtime.model_copy(update={"workers": workers})
        return fit(nodes, candidate, resources, engines, scorers).trainers

    most = trainers(fewest) * fewest // max(1, ladders.at_once)
    for workers in range(min(high, most), fewest, -1):
        try:
            if trainers(workers) >= ladders.at_once:
                return runtime.model_copy(update={"workers": workers})
        except SpecError:  # this many do not fit beside engines and scorers
            continue
    return runtime.model_copy(update={"workers": fewest})


def _fewest_that_fit(
    low: int, high: int, runtime: Runtime, ladders: LadderProfile, nodes: Sequence[Node]
) -> int:
    """Return the fewest workers whose GPUs hold the model; `low` if the memory is unknown.

    As many as the cluster has GPUs are tried before anything is offloaded.
    """
    memory = worker_gpu_gib(nodes, runtime)
    if memory is None:
        return low
    share = runtime.gpus_per_worker or 1.0
    most = min(high, max(low, int(sum(node.gpus for node in nodes) / share)))
    for offloading in (False, True):
        for workers in range(low, most + 1):
            gib = ladders.gib(workers, offloading)
            if gib is None:
                return low
            if gib <= FILLED * memory:
                return workers
    return most
