"""How trainers, engines and scorers use the same GPUs. Pure.

`fit` tries, in this order: side by side; a trainer of one worker with a fraction of a GPU, where
its model is known to fit; and taking turns, where trainers have all resources, then engines and
scorers have them. Turns cost the start of engines and trainers at each change, so they come last.

`lend_engines` gives trainers the places of engines and scorers while nothing is to be evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..spec import Resources, Runtime, Serving, SpecError
from .bin_packing import Bundle
from .layout import EngineMemory, Layout, Phase, ResourceNeeds, Workload
from .nodes import Node
from .placer import Placer, in_turns, lay_out
from .requirements import SHARES, resource_needs
from .settings import FILLED, worker_gpu_gib


def fit(
    nodes: Sequence[Node],
    runtime: Runtime,
    resources: Resources,
    engines: Mapping[str, EngineMemory],
    scorers: Sequence[str],
    workload: Workload | None = None,
    worker_gib: float | None = None,
) -> Layout:
    """Return a layout of the sweep on the nodes; side by side if possible.

    `worker_gib` is the GPU memory of a training worker in GiB, None if unknown. For the others see
    `lay_out`. Raises `SpecError` naming the field if the sweep fits in no way.
    """
    try:
        return lay_out(nodes, runtime, resources, engines, scorers, workload)
    except SpecError as e:
        error = e
    for share in _trainer_shares(nodes, runtime, worker_gib):
        try:
            smaller = runtime.model_copy(update={"gpus_per_worker": share})
            return lay_out(nodes, smaller, resources, engines, scorers, workload)
        except SpecError:
            continue
    try:
        return _take_turns(nodes, runtime, resources, engines, scorers, workload)
    except SpecError as alone:
        # Names what does not fit by itself, unless the request is wrong in any layout.
        if not str(alone).startswith("resources: "):
            raise error from None
        on_cpus = Serving(engine="transformers", gpus=0.0)
        try:
            cheaper = resources.model_copy(update={"scorers": on_cpus})
            _take_turns(nodes, runtime, cheaper, engines, scorers, workload)
        except SpecError:
            raise alone from None
        advice = "resources.scorers: {engine: transformers, gpus: 0} would fit"
        raise SpecError(f"{alone}; {advice}") from None


def lend_engines(layout: Layout, resources: Resources, workload: Workload | None) -> Layout:
    """Return the layout without engines and scorers, with more trainers in their places.

    The trainers of `layout` keep theirs.
    """
    training = layout.during(Phase.TRAINING)
    if layout.turns:
        return training
    placer = Placer(layout.nodes, layout.needs, resources, workload, Phase.TRAINING)
    placer.restore(training)
    placer.fill()
    return replace(training, trainer_slots=placer.layout().trainer_slots)


def _trainer_shares(nodes: Sequence[Node], runtime: Runtime, gib: float | None) -> list[float]:
    """Return the fractions of a GPU that hold a training worker, the largest first."""
    if gib is None or runtime.workers != 1 or runtime.gpus_per_worker is not None:
        return []
    memory = worker_gpu_gib(nodes, runtime) or 0.0
    choices = [share for share in SHARES if share < 1 and gib <= FILLED * share * memory]
    return choices[::-1]


def _take_turns(
    nodes: Sequence[Node],
    runtime: Runtime,
    resources: Resources,
    engines: Mapping[str, EngineMemory],
    scorers: Sequence[str],
    workload: Workload | None,
) -> Layout:
    memory = engines or {"": EngineMemory()}
    needs = resource_needs(nodes, runtime, resources, memory)

    def phase(which: Phase, needs: ResourceNeeds) -> Layout:
        placer = Placer(nodes, needs, resources, workload, which)
        placer.place_minimum(scorers)
        placer.fill()
        return placer.layout()

    training = phase(Phase.TRAINING, needs)
    while True:
        try:
            return in_turns(training, phase(Phase.EVALUATION, needs))
        except SpecError:
            smaller = _smaller_engines(nodes, needs, resources, memory)
            if smaller is None:
                raise
            needs = smaller


def _smaller_engines(
    nodes: Sequence[Node],
    needs: ResourceNeeds,
    resources: Resources,
    memory: Mapping[str, EngineMemory],
) -> ResourceNeeds | None:
    """Return the needs with the largest engines a step smaller; None if one would not hold a model.

    A smaller engine has less memory for its cache, and answers fewer requests at a time. On a GPU
    of unknown memory, any model may fit a part: vLLM says if it does not.
    """
    gpus = [node.gpu.memory if node.gpu else float("inf") for node in nodes if node.gpus]
    largest = max(need.gpus for need in needs.engines.values())
    smaller = max((share for share in SHARES if share < largest), default=0.0)
    fixed = resources.engines.gpus is not None or resources.engines.tensor_parallel > 1
    if fixed or not smaller or not gpus:
        return None
    room = smaller * min(gpus) * resources.engines.gpu_memory
    changed = {}
    for name, need in needs.engines.items():
        if need.gpus == largest:
            if room < float("inf") and room < (memory[name].weights or float("inf")):
                return None
            need = Bundle(need.cpus, smaller)
        changed[name] = need
    return replace(needs, engines=changed)
