"""Divides a cluster among the trainers, engines and scorers of a sweep, and prices the result.

`allocate` is the only place where this is decided: the driver runs what it returns, `--dry-run`
prints it, and `estimate` includes it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..plan import ANSWERS, EvaluationRequest, Plan, TaskInfo
from ..spec import Runtime
from .flops import Rate, rate
from .layout import Layout, Workload
from .nodes import Node
from .requirements import with_scorer_share
from .settings import ladder_kinds, settle_runtimes, worker_gpu_gib
from .sharing import fit
from .wall_clock import WallClock, estimate_wall_clock, seconds_of_ladders
from .worker_count import settle_worker_count
from .workload import (
    engine_memory,
    gpu_hours,
    ladder_profile,
    scorer_gib,
    scorers_of,
    slowest_gpu,
    workload_of,
)


@dataclass(frozen=True)
class SweepAllocation:
    """The division of a cluster for one sweep, with estimated times on that cluster's hardware."""

    nodes: tuple[Node, ...]
    runtime: Runtime
    """The spec's training runtime, its number of workers decided."""
    runtimes: Mapping[str, Runtime]
    """How each ladder is executed, by its id: every setting decided, to fit in GPU memory."""
    workload: Workload
    layout: Layout
    rate: Rate
    """Speed of one trainer (all of its workers) on the cluster's GPU type."""
    ladder_seconds: Mapping[str, float]
    """Estimated training time of each ladder on one trainer, by ladder id."""
    request_seconds: float
    """Estimated mean time of one evaluation request, shared over all engines; engine start-up
    excluded."""
    gpu_type: str
    """The GPU type that times are estimated for: the slowest of the cluster."""
    gpu_hours: float | None
    """Estimated GPU-hours of the whole plan; None where the layout uses no GPU."""
    wall_clock: WallClock
    """Estimated wall-clock time of the whole plan."""


def allocate(
    plan: Plan,
    task_info: Mapping[str, TaskInfo],
    nodes: Sequence[Node],
    *,
    open_requests: Iterable[EvaluationRequest] | None = None,
) -> SweepAllocation:
    """Return the division of `nodes` for the sweep, and its estimated times.

    `open_requests` are the evaluation requests without recorded results: only engines and scorers
    that they need get a place. None stands for all requests of the plan. Times are always those of
    the whole plan. Raises `SpecError` naming the field if the sweep does not fit on the nodes.
    """
    resources = with_scorer_share(plan.spec.resources, scorer_gib(plan), nodes)
    engines, scorers = engine_memory(plan), scorers_of(plan)
    if open_requests is not None:
        requests = tuple(open_requests)
        needed = {plan.engine_of(request) for request in requests}
        engines = {name: memory for name, memory in engines.items() if name in needed}
        scorers = scorers_of(plan, {each.task for each in requests if each.kind == ANSWERS})
    kinds = ladder_kinds(plan)
    profile = ladder_profile(plan, kinds)
    runtime = settle_worker_count(
        plan.spec.training.runtime, profile, nodes, resources, engines, scorers
    )
    assert isinstance(runtime.workers, int)  # settled
    gpus = sum(node.gpus for node in nodes)
    settings = settle_runtimes(kinds, runtime.workers, worker_gpu_gib(nodes, runtime), gpus)
    workload = workload_of(plan, task_info)
    gib = profile.gib(runtime.workers, False)
    layout = fit(nodes, runtime, resources, engines, scorers, workload, gib)
    gpu_type, needs = slowest_gpu(layout), layout.needs
    trainer = rate(needs.workers, needs.worker.cpus, needs.worker.gpus, gpu_type)
    seconds = seconds_of_ladders(plan, task_info, layout, settings)
    wall_clock = estimate_wall_clock(plan, task_info, layout, seconds)
    return SweepAllocation(
        nodes=tuple(nodes),
        runtime=runtime,
        runtimes={
            ladder: chosen.model_copy(update={"gpus_per_worker": needs.worker.gpus})
            for ladder, chosen in settings.items()
        },
        workload=workload,
        layout=layout,
        rate=trainer,
        ladder_seconds={ladder: each.total for ladder, each in seconds.items()},
        request_seconds=wall_clock.busy["engines"] / max(1, len(plan.requests())),
        gpu_type=gpu_type,
        gpu_hours=gpu_hours(plan, task_info, layout),
        wall_clock=wall_clock,
    )
