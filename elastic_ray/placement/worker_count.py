"""How many workers a trainer has, where the spec leaves it open (pure).

Any number trains the same states: micro batches are dealt from whole global batches. So `auto`, or
a range, takes as few as hold the model, and more only where the sweep has fewer ladders at a time
than the cluster has room for trainers. More than a global batch has examples would stand idle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..spec import Resources, Runtime, SpecError
from .layout import EngineMemory
from .nodes import Node
from .placer import lay_out

FILLED = 0.9
"""The share of a GPU's memory that a worker may be counted on to fill."""


@dataclass(frozen=True)
class LadderProfile:
    """What the number of workers depends on: the smallest global batch, how many ladders may train
    at a time, and the GiB of GPU memory of each worker among so many (None: not known)."""

    batch: int
    at_once: int
    gib: Callable[[int], float | None]


def settle_worker_count(
    runtime: Runtime,
    ladders: LadderProfile,
    nodes: Sequence[Node],
    resources: Resources,
    kinds: Mapping[str, EngineMemory],
    scorers: Sequence[str],
) -> Runtime:
    """The runtime with a number of workers. `SpecError` as `lay_out`, or for a range beyond the
    global batch."""
    if isinstance(runtime.workers, int):
        return runtime
    low, high = (1, ladders.batch) if runtime.workers == "auto" else runtime.workers
    if low > ladders.batch:
        raise SpecError(
            f"training.workers: found {low} to {high}; the smallest global_batch is "
            f"{ladders.batch}, and each worker needs an example of every batch"
        )
    high = min(high, ladders.batch)
    least = _least(low, high, runtime, ladders, nodes)

    def trainers(workers: int) -> int:
        chosen = runtime.model_copy(update={"workers": workers})
        return lay_out(nodes, chosen, resources, kinds, scorers).trainers

    room = trainers(least) * least // max(1, ladders.at_once)
    for workers in range(min(high, room), least, -1):
        try:
            if trainers(workers) >= ladders.at_once:
                return runtime.model_copy(update={"workers": workers})
        except SpecError:  # so many do not fit beside the rest
            continue
    return runtime.model_copy(update={"workers": least})


def _least(
    low: int, high: int, runtime: Runtime, ladders: LadderProfile, nodes: Sequence[Node]
) -> int:
    """The fewest workers whose GPUs hold the model; `low` where that is not known."""
    known = [node.gpu.memory if node.gpu else None for node in nodes if node.gpus]
    share = 1.0 if runtime.gpus_per_worker is None else runtime.gpus_per_worker
    if not known or not share or None in known:
        return low
    memory = FILLED * share * min(each for each in known if each is not None)
    for workers in range(low, high + 1):
        gib = ladders.gib(workers)
        if gib is None:
            return low
        if gib <= memory:
            return workers
    return high
