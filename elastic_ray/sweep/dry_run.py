"""Prints what a sweep would train and cost, for `--dry-run`, from its `placement.Estimate`.

Also explains which sizes of the sweep file cannot share a training run, and what would change that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from ..elasticity import ASSUMED
from ..placement import DEVICES, Estimate
from ..plan import Plan, TaskInfo, scorer_lines
from ..spec import Recipe, Resources, Spec
from .steps import size_lists, step_lines

NEAR = 4
"""Suggested batch sizes are at most this many times smaller or larger than the spec's."""


def print_price(
    console: Console,
    plan: Plan,
    price: Estimate,
    tasks: Mapping[str, TaskInfo],
    unreachable: Mapping[str, str],
) -> None:
    """Print the size and the price of the sweep.

    `tasks` is by name; `unreachable` gives the reason for each task whose data could not be read.
    """
    spec = plan.spec
    console.print(
        f"sweep {price.sweep}: {price.cells:,} cells, "
        + (f"{price.lessons:,} lessons, " if price.lessons else "")
        + f"{price.states:,} states, {price.ladders:,} training runs"
    )
    table = Table()
    for head in ("examples", "cell by cell", "shared", "fused"):
        table.add_column(head, justify="left" if head == "examples" else "right")
    for kind, count in price.examples.items():
        table.add_row(kind, f"{count.cell_by_cell:,}", f"{count.shared:,}", f"{count.fused:,}")
    console.print(table)
    for line in dict.fromkeys(unfused(spec)):
        console.print(line, markup=False)
    for line in dict.fromkeys(step_lines(spec)):
        console.print(line, markup=False, soft_wrap=True)
    read = f"; code lengths: {price.code_lengths:,}" if spec.probes.code_length else ""
    read += f"; distances: {price.distances:,}" if price.distances else ""
    for line in scorer_lines(spec):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"tokens trained: about {price.tokens:,.0f}; answers: {price.answers:,}{read}")
    console.print(
        f"checkpoints: {_bytes(price.checkpoint_bytes)} written, {_bytes(price.kept_bytes)} left "
        f"(keep: {spec.keep})"
    )
    console.print(
        f"resume points: {_bytes(price.point_bytes)} written, and up to "
        f"{_bytes(price.largest_point_bytes)} at each notice of preemption",
        soft_wrap=True,
    )
    console.print(
        f"written in all: {_bytes(price.checkpoint_bytes + price.point_bytes)}; uploaded as well "
        "if the results are on an object store",
        soft_wrap=True,
    )
    for line in _precision(spec):
        console.print(line, markup=False, soft_wrap=True)
    console.print(_gpu_hours(price.reference_gpu_hours))
    if budget := _budget(spec.resources):
        console.print(budget)
    for line in _assumptions(plan, tasks):
        console.print(line, markup=False, soft_wrap=True)
    for name, why in unreachable.items():
        console.print(
            f"not read, so sizes are not checked and {tasks[name].mean_tokens:.0f} tokens per "
            f"example are assumed: {why}",
            markup=False,
            soft_wrap=True,
        )


def _precision(spec: Spec) -> Iterator[str]:
    """Yield what interval of a mean score to expect, and what half of it would take."""
    if all(task.scorer is None for task in spec.task):
        return
    prompts, seeds = spec.generation.prompts, len(spec.seeds)
    half = ASSUMED.half_width(prompts, seeds)
    held = "over prompts alone, one seed says nothing of others" if seeds < 2 else "over both"
    yield (
        f"expected 95% interval of a mean share: +-{half:.2f} from {prompts:,} prompts and {seeds} "
        f"seed{'s' * (seeds > 1)} ({held}; assumed: a deviation between seeds of "
        f"{math.sqrt(ASSUMED.seed):.2g})"
    )
    more_seeds = ASSUMED.seeds_for(half / 2, prompts)
    more_prompts = ASSUMED.prompts_for(half / 2, seeds) if seeds > 1 else None
    yield (
        f"half of it: {_number(more_seeds)} seeds with as many prompts, or "
        f"{_number(more_prompts)} prompts with as many seeds"
        if seeds > 1
        else f"an interval over seeds as well: +-{ASSUMED.half_width(prompts, 3):.2f} with 3 "
        f"seeds, +-{ASSUMED.half_width(prompts, 5):.2f} with 5"
    )


def _number(count: int | None) -> str:
    return "no number of" if count is None else f"{count:,}"


def _gpu_hours(by_type: Mapping[str, Mapping[str, float]]) -> str:
    """Return the line of GPU-hours: by part on the first GPU type, in total on the others."""
    (first, parts), *others = by_type.items()
    each = ", ".join(f"{part} {_hours(hours)}" for part, hours in parts.items())
    rest = ", ".join(f"{_hours(sum(hours.values()))} on {name}s" for name, hours in others)
    return f"GPU-hours: {_hours(sum(parts.values()))} on {first}s ({each}); {rest}"


def _budget(resources: Resources) -> str | None:
    """Return the line of the sweep's limits; None if it has none."""
    gpus, cpus = resources.max_gpu_hours, resources.max_cpu_hours
    limits = [f"{gpus:g} GPU-hours (resources.max_gpu_hours)"] if gpus else []
    limits += [f"{cpus:g} CPU-hours (resources.max_cpu_hours)"] if cpus else []
    return f"budget: {', '.join(limits)}" if limits else None


def _assumptions(plan: Plan, tasks: Mapping[str, TaskInfo]) -> Iterator[str]:
    """Yield the assumptions behind the GPU-hours, a line each."""
    flops = ", ".join(f"{rate:.2g} ({device})" for device, rate in DEVICES.items())
    yield (
        "assumed: 6 FLOP per parameter and token trained, 2 per token read (scores, code lengths, "
        "distances), "
        f"10 per token answered (memory-bound), at {flops} FLOP/s, about 40% of the peak in bf16"
    )
    tokens = ", ".join(f"{info.mean_tokens:.0f} ({name})" for name, info in tasks.items())
    yield (
        f"assumed: tokens per example: {tokens}; answers of the maximum length, "
        f"{plan.spec.generation.max_tokens} tokens; loading, saving and swaps included, start-up "
        "and idle GPUs not"
    )
    unknown = [group.name for group in plan.groups.values() if group.parameters is None]
    if unknown:
        yield f"size unknown, counted as 1B parameters: {', '.join(unknown)}"


def unfused(spec: Spec) -> Iterator[str]:
    """Yield a line for each list of sizes that needs several training runs, and how to avoid it."""
    for name, kind, listed in size_lists(spec):
        sizes = [size for size in listed if size]
        recipe = spec.training.recipe(kind)
        if len(sizes) < 2:
            continue
        reason = _never_fuses(recipe)
        if reason:
            yield f"not fused: {name}: {reason}, so each of the {len(sizes)} sizes is its own run"
            continue
        batch = recipe.global_batch
        apart = [f"{size:,}" for size in sizes[:-1] if size % batch]
        if apart:
            yield (
                f"not fused: {name} {', '.join(apart)}: not a multiple of the global batch of "
                f"{batch}; all sizes would share one run with a global_batch of "
                f"{_fitting_batches(sizes, batch)}"
            )


def _never_fuses(recipe: Recipe) -> str | None:
    """Return why no size of a recipe is a prefix of a larger one; None if sizes can be."""
    if recipe.schedule != "constant":
        return f"the {recipe.schedule} schedule spans the whole run"
    return f"{recipe.epochs} epochs each see all examples" if recipe.epochs > 1 else None


def _fitting_batches(sizes: Sequence[int], batch: int) -> str:
    """Return the batch sizes near `batch` that divide all sizes but the largest, as text."""
    common = math.gcd(*sizes[:-1])
    divisors = [n for n in range(1, common + 1) if common % n == 0]
    near = [n for n in divisors if batch <= n * NEAR and n <= batch * NEAR]
    *first, last = map(str, near or divisors[-1:])
    return f"{', '.join(first)} or {last}" if first else last


def _hours(hours: float) -> str:
    if hours < 0.01:
        return "below 0.01"
    return f"about {hours:,.0f}" if hours >= 100 else f"about {hours:.2g}"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
