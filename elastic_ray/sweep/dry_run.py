"""What `--dry-run` prints of a plan: how large it is, what it trains, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from ..placement import DEVICES, answers_per_teacher, checkpoint_bytes, gpu_seconds, texts_per_state
from ..plan import ANSWERS, CODE_LENGTH, DISTANCES, QUERIES, Plan, TaskInfo
from ..spec import Recipe, Spec

NEAR = 4
"""Batch sizes are proposed up to this many times smaller or larger than the one asked for."""


def print_price(
    console: Console,
    plan: Plan,
    tasks: Mapping[str, TaskInfo],
    unreached: Mapping[str, str],
) -> None:
    """Print what the sweep is, what it trains and what it costs.

    `tasks` by name; `unreached` says of some why their data could not be read.
    """
    spec = plan.spec
    console.print(
        f"sweep {spec.sweep}: {len(plan.cells):,} cells, "
        + (f"{len(plan.lessons):,} lessons, " if plan.lessons else "")
        + f"{len(plan.states):,} states, {len(plan.ladders):,} ladders"
    )
    table = Table()
    for head in ("examples", "cell by cell", "shared", "fused"):
        table.add_column(head, justify="left" if head == "examples" else "right")
    for kind, asked in plan.asked.items():
        table.add_row(kind, f"{asked.cell_by_cell:,}", f"{asked.shared:,}", f"{asked.fused:,}")
    console.print(table)
    for line in dict.fromkeys(unfused(spec)):
        console.print(line, markup=False)
    g = spec.generation
    answers = _count(plan, ANSWERS) * g.prompts * g.samples
    answers += _count(plan, QUERIES) * answers_per_teacher(plan)
    tokens = sum(
        ladder.examples * ladder.stage.recipe.epochs * tasks[ladder.task].mean_tokens
        for ladder in plan.ladders
    )
    texts = texts_per_state(plan)
    read = f"; code lengths: {_count(plan, CODE_LENGTH) * texts:,}" if texts else ""
    if plan.lessons:
        read += f"; distances: {_count(plan, DISTANCES) * g.prompts * g.samples:,}"
    console.print(f"tokens trained: about {tokens:,.0f}; answers: {answers:,}{read}")
    written, left = _checkpoints(plan)
    console.print(
        f"checkpoints: {_bytes(written)} written, {_bytes(left)} left (keep: {spec.keep})"
    )
    spent = {device: gpu_seconds(plan, tasks, device) for device in DEVICES}
    each = ", ".join(f"{kind} {_hours(took)}" for kind, took in spent["A800"].items())
    total = {device: _hours(sum(took.values())) for device, took in spent.items()}
    rest = ", ".join(f"{hours} on {device}s" for device, hours in total.items() if device != "A800")
    console.print(f"GPU-hours: {total['A800']} on A800s ({each}); {rest}")
    gpus, cpus = spec.resources.max_gpu_hours, spec.resources.max_cpu_hours
    limits = [f"{gpus:g} GPU-hours (resources.max_gpu_hours)"] if gpus else []
    limits += [f"{cpus:g} CPU-hours (resources.max_cpu_hours)"] if cpus else []
    if limits:
        console.print(f"budget: {', '.join(limits)}")
    for line in _assumed(plan, tasks):
        console.print(line, markup=False, soft_wrap=True)
    for name, why in unreached.items():
        console.print(
            f"not read, so sizes are not checked and {tasks[name].mean_tokens:.0f} tokens an "
            f"example are assumed: {why}",
            markup=False,
            soft_wrap=True,
        )


def _assumed(plan: Plan, tasks: Mapping[str, TaskInfo]) -> Iterator[str]:
    """What the GPU-hours rest on, a line each."""
    flops = ", ".join(f"{rate:.2g} ({device})" for device, rate in DEVICES.items())
    yield (
        "assumed: 6 FLOP per parameter and token trained, 2 per token read (scores, code lengths, "
        "distances), "
        f"10 per token answered (memory-bound), at {flops} FLOP/s, about 40% of the peak in bf16"
    )
    tokens = ", ".join(f"{facts.mean_tokens:.0f} ({name})" for name, facts in tasks.items())
    g = plan.spec.generation
    yield (
        f"assumed: tokens an example: {tokens}; answers of {g.max_tokens}, the most; left out: "
        "starting, loading, saving, idle GPUs"
    )
    unknown = [group.name for group in plan.groups.values() if group.parameters is None]
    if unknown:
        yield f"size unknown, counted as 1B parameters: {', '.join(unknown)}"


def unfused(spec: Spec) -> Iterator[str]:
    """A line for each list of sizes that cannot lie on one run, with why, and what would help."""
    lists = [(f"{model.name} pretrain", "pretrain", model.pretrain) for model in spec.models]
    lists += [("positive", "positive", spec.positive), ("negative", "negative", spec.negative)]
    lists += [(f"{task.name} positive", "positive", task.positive or ()) for task in spec.task]
    for name, kind, asked in lists:
        sizes = [size for size in asked if size]
        recipe = spec.training.recipe(kind)
        if len(sizes) < 2:
            continue
        why = _never(recipe)
        if why:
            yield f"not fused: {name}: {why}, so each of the {len(sizes)} sizes is a run of its own"
            continue
        batch = recipe.global_batch
        apart = [f"{size:,}" for size in sizes[:-1] if size % batch]
        if apart:
            yield (
                f"not fused: {name} {', '.join(apart)}: no whole number of global batches of "
                f"{batch}; all sizes would lie on one run with a global_batch of "
                f"{_fitting(sizes, batch)}"
            )


def _never(recipe: Recipe) -> str | None:
    """Why no size of a recipe is a prefix of a larger one, if so."""
    if recipe.schedule != "constant":
        return f"the {recipe.schedule} schedule spans the whole run"
    return f"{recipe.epochs} epochs each see all examples" if recipe.epochs > 1 else None


def _fitting(sizes: Sequence[int], batch: int) -> str:
    """The batch sizes near the one asked for that divide all sizes but the largest."""
    common = math.gcd(*sizes[:-1])
    all_of_them = [n for n in range(1, common + 1) if common % n == 0]
    near = [n for n in all_of_them if batch <= n * NEAR and n <= batch * NEAR]
    *first, last = map(str, near or all_of_them[-1:])
    return f"{', '.join(first)} or {last}" if first else last


def _checkpoints(plan: Plan) -> tuple[int, int]:
    """Bytes written over the sweep, and left at its end; a start from elsewhere stays there."""
    spec = plan.spec
    written = left = 0
    for node in plan.states.values():
        if node.stage is None and plan.starts[node.state_id].kind != "init":
            continue
        recipe = node.stage.recipe if node.stage else spec.training.pretrain
        size = checkpoint_bytes(plan.groups[node.engine].parameters, recipe)
        written += size
        base = node.stage is None or node.stage.kind == "pretrain"
        left += size if spec.keep == "all" or (spec.keep == "base" and base) else 0
    return written, left


def _count(plan: Plan, kind: str) -> int:
    return sum(asked.kind == kind for asked in plan.requests())


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    if hours < 0.01:
        return "below 0.01"
    return f"about {hours:,.0f}" if hours >= 100 else f"about {hours:.2g}"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
