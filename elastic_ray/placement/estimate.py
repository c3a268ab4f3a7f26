"""What a sweep will train, write and cost, estimated before it runs. Pure.

`estimate` counts everything in the plan as if nothing were recorded yet; `--dry-run` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..plan import (
    ANSWERS,
    CODE_LENGTH,
    DISTANCES,
    QUERIES,
    ExampleCounts,
    Plan,
    TaskInfo,
    keeps_checkpoint,
    load_inputs,
)
from .allocation import SweepAllocation, allocate
from .flops import DEVICES, rate
from .layout import Layout
from .memory import checkpoint_bytes, point_bytes
from .nodes import Node, describe_nodes, parse_cluster
from .wall_clock import seconds_of_ladders
from .workload import (
    DEFAULT_GPU,
    answers_per_teacher,
    fewest_workers,
    gpu_seconds,
    ladder_seconds,
    texts_per_state,
)


@dataclass(frozen=True)
class Estimate:
    """The size and the price of a sweep. `print` shows a summary."""

    sweep: str
    cells: int
    lessons: int
    states: int
    ladders: int
    examples: Mapping[str, ExampleCounts]
    """Examples trained by kind of training: as requested cell by cell, after sharing states, and
    after fusing states into ladders."""
    tokens: float
    """Tokens trained."""
    answers: int
    """Answers generated, also those that lessons are learnt from."""
    code_lengths: int
    """Texts whose code length is measured, over all states."""
    distances: int
    """Answers on which two states are compared."""
    checkpoint_bytes: int
    """Bytes of all checkpoints that the sweep writes."""
    kept_bytes: int
    """Bytes of the checkpoints that remain at its end (the spec's `keep`)."""
    point_bytes: int
    """Bytes of all resume points that the sweep writes if nothing is preempted."""
    largest_point_bytes: int
    """Bytes that a trainer writes when one of its nodes is about to be preempted, at most."""
    reference_gpu_hours: Mapping[str, Mapping[str, float]]
    """GPU-hours by reference GPU type ("A800", "H100") and part ("training", "answers", ...)."""
    gpu_hours_by_part: Mapping[str, float]
    """GPU-hours by part on the cluster's slowest GPU type; empty without a cluster or GPUs."""
    allocation: SweepAllocation | None = field(repr=False)
    """The division of the cluster; None without a cluster."""

    @property
    def gpu_hours(self) -> float | None:
        """GPU-hours in total on the cluster; None without a cluster or GPUs."""
        return self.allocation.gpu_hours if self.allocation else None

    @property
    def layout(self) -> Layout | None:
        """Which process runs on which node of the cluster; None without a cluster."""
        return self.allocation.layout if self.allocation else None

    @property
    def trainers(self) -> int:
        """Trainers that run at the same time; 0 without a cluster."""
        return self.layout.trainers if self.layout else 0

    @property
    def engines(self) -> int:
        """Engine replicas that run at the same time; 0 without a cluster."""
        return self.layout.open_groups * self.layout.replicas if self.layout else 0

    @property
    def scorers(self) -> int:
        """Scorer replicas that run at the same time; 0 without a cluster."""
        return sum(map(len, self.layout.scorer_places.values())) if self.layout else 0

    @property
    def wall_clock_hours(self) -> float | None:
        """Hours that the sweep takes on the cluster; None without a cluster."""
        return self.allocation.wall_clock.total / 3600 if self.allocation else None

    def __str__(self) -> str:
        requested, fused = (
            sum(getattr(count, name) for count in self.examples.values())
            for name in ("cell_by_cell", "fused")
        )
        lines = [
            f"sweep {self.sweep}: {self.cells:,} cells, {self.states:,} states, "
            f"{self.ladders:,} ladders",
            f"examples: {requested:,} cell by cell, {fused:,} trained; tokens: {self.tokens:,.0f}",
            f"checkpoints: {self.checkpoint_bytes / 1e9:,.3g} GB written, "
            f"{self.kept_bytes / 1e9:,.3g} GB kept; resume points: "
            f"{self.point_bytes / 1e9:,.3g} GB written",
        ]
        if self.allocation:
            hours = f"{self.gpu_hours:.3g} GPU-hours, " if self.gpu_hours is not None else ""
            lines.append(
                f"on {describe_nodes(self.allocation.nodes)}: {hours}"
                f"{self.wall_clock_hours:.3g} hours of wall-clock time; {self.trainers} "
                f"trainer(s), {self.engines} engine(s), {self.scorers} scorer(s)"
            )
        else:
            totals = {name: sum(h.values()) for name, h in self.reference_gpu_hours.items()}
            hours = ", ".join(f"{total:.3g} on {name}s" for name, total in totals.items())
            lines.append(f"GPU-hours: {hours}")
        return "\n".join(lines)


def estimate(
    plan: Plan,
    cluster: str | Sequence[Node] | None = None,
    *,
    task_info: Mapping[str, TaskInfo] | None = None,
) -> Estimate:
    """Return the size and the price of a planned sweep on a cluster.

    `cluster` is a description such as "4x8xA100" (nodes x GPUs x type; see `parse_cluster`), or its
    nodes; without one, no layout and no wall-clock time is estimated. `task_info` is what the plan
    was made with; by default the tasks of the spec are read again, with assumed lengths for data
    that is not reachable. Raises `SpecError` if the sweep does not fit on the cluster.
    """
    if task_info is None:
        task_info = load_inputs(plan.spec, to_run=False).task_info()
    nodes = parse_cluster(cluster) if isinstance(cluster, str) else cluster
    allocation = allocate(plan, task_info, nodes) if nodes is not None else None
    written, kept = _checkpoint_bytes(plan)
    points, largest = _point_bytes(plan, task_info, allocation)
    generation = plan.spec.generation
    counts = dict.fromkeys((ANSWERS, CODE_LENGTH, DISTANCES, QUERIES), 0)
    for request in plan.requests():
        counts[request.kind] += 1
    answers = generation.prompts * generation.samples
    uses_gpus = allocation is not None and allocation.gpu_hours is not None
    return Estimate(
        sweep=plan.spec.sweep,
        cells=len(plan.cells),
        lessons=len(plan.lessons),
        states=len(plan.states),
        ladders=len(plan.ladders),
        examples=plan.example_counts,
        tokens=sum(
            ladder.examples
            * ladder.stage.recipe.epochs
            * min(task_info[ladder.task].mean_tokens, ladder.stage.recipe.max_length)
            for ladder in plan.ladders
        ),
        answers=counts[ANSWERS] * answers + counts[QUERIES] * answers_per_teacher(plan),
        code_lengths=counts[CODE_LENGTH] * texts_per_state(plan),
        distances=counts[DISTANCES] * answers,
        checkpoint_bytes=written,
        kept_bytes=kept,
        point_bytes=points,
        largest_point_bytes=largest,
        reference_gpu_hours={name: _gpu_hours(plan, task_info, name) for name in DEVICES},
        gpu_hours_by_part=_gpu_hours(plan, task_info, allocation.gpu_type)
        if allocation and uses_gpus
        else {},
        allocation=allocation,
    )


def _gpu_hours(plan: Plan, task_info: Mapping[str, TaskInfo], gpu_type: str) -> dict[str, float]:
    """Return the GPU-hours of the plan on GPUs of a type, by part."""
    seconds = gpu_seconds(plan, task_info, gpu_type)
    return {part: took / 3600 for part, took in seconds.items()}


def _checkpoint_bytes(plan: Plan) -> tuple[int, int]:
    """Return the bytes of checkpoints that are written, and of those that remain at the end.

    The checkpoint of a start that is not trained here (the hub's, a folder's) is not copied.
    """
    spec = plan.spec
    written = kept = 0
    for state in plan.states.values():
        if state.stage is None and plan.starts[state.state_id].kind != "init":
            continue
        recipe = state.stage.recipe if state.stage else spec.training.pretrain
        size = checkpoint_bytes(plan.groups[state.engine].parameters, recipe)
        written += size
        if keeps_checkpoint(spec.keep, state.stage.kind if state.stage else "start"):
            kept += size
    return written, kept


def _point_bytes(
    plan: Plan, tasks: Mapping[str, TaskInfo], allocation: SweepAllocation | None
) -> tuple[int, int]:
    """Return the bytes of the resume points that are written, and of the largest one.

    Without a cluster, trainers of `DEFAULT_GPU`s are assumed.
    """
    if allocation is None:
        runtime = plan.spec.training.runtime
        workers = fewest_workers(runtime)
        trainer = rate(workers, 0, 1, DEFAULT_GPU)
        seconds = {
            ladder.id: ladder_seconds(plan, ladder, tasks, trainer, runtime, workers)
            for ladder in plan.ladders
        }
    else:
        seconds = seconds_of_ladders(plan, tasks, allocation.layout, allocation.runtimes)
    total = largest = 0
    for ladder in plan.ladders:
        size = point_bytes(plan.groups[ladder.engine].parameters, ladder.stage.recipe)
        total += size * seconds[ladder.id].point_count
        largest = max(largest, size)
    return total, largest
