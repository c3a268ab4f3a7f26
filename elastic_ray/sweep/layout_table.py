"""Prints the division of a cluster for `--dry-run`: what each node runs, and the time it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table

from ..cluster.inventory import available_nodes
from ..placement import (
    CACHED_REQUESTS,
    CPU_FLOPS,
    CPUS_PER_GPU,
    Allocation,
    Layout,
    Node,
    Phase,
    SweepAllocation,
    WallClock,
    allocate,
    describe_nodes,
)
from ..plan import Plan, TaskInfo
from ..spec import SpecError


def print_layout(console: Console, plan: Plan, allocation: SweepAllocation, where: str) -> None:
    """Print what runs on each node, and the time it takes; `where` names the cluster."""
    layout, took = allocation.layout, allocation.wall_clock
    nodes = describe_nodes(allocation.nodes)
    console.print(f"layout on {where}: {nodes}", markup=False, soft_wrap=True)
    table = Table()
    for head in ("node", "trainers", "engines", "scorers", "left"):
        table.add_column(head)
    for names, parts in _rows(layout):
        table.add_row(names, *parts)
    console.print(table)
    together = "concurrently, so the longest counts"
    if layout.turns:
        together = "in turns: training, then answers and scores together, and so on"
    console.print(
        f"wall-clock time: {_hours(took.total)} (training {_hours(took.training)} on "
        f"{layout.trainers} trainer(s), answers {_hours(took.answers)} on "
        f"{layout.open_groups * layout.replicas} engine(s), scores {_hours(took.scores)}; they run "
        f"{together})",
        soft_wrap=True,
    )
    for line in _where_it_goes(took):
        console.print(line, markup=False, soft_wrap=True)
    for line in _settings(plan, allocation):
        console.print(line, markup=False, soft_wrap=True)
    for line in _assumptions(plan, allocation):
        console.print(line, markup=False, soft_wrap=True)


def print_available_layout(console: Console, plan: Plan, tasks: Mapping[str, TaskInfo]) -> None:
    """Print the layout on the cluster that the sweep would run on now, or why it does not fit."""
    where = "the available cluster"
    try:
        nodes, where = available_nodes()
        print_layout(console, plan, allocate(plan, tasks, nodes), where)
    except (SpecError, OSError) as e:
        console.print(f"no layout on {where}: {e}", markup=False, soft_wrap=True)
        console.print("to see a layout on another cluster: --cluster 4x8xA100", markup=False)


def _where_it_goes(took: WallClock) -> Iterator[str]:
    """Yield what the time is spent on, and what waits, a line each."""
    parts = sorted(took.parts.items(), key=lambda part: -part[1])
    yield (
        f"of which Ray and the start states take {_short(took.start)}; then, summed over trainers "
        "and replicas: " + ", ".join(f"{part} {_short(seconds)}" for part, seconds in parts)
    )
    idle = ", ".join(f"{part} {share:.0%}" for part, share in took.idle.items())
    yield f"idle or starting: {idle} of the time"


def _short(seconds: float) -> str:
    """Return a duration in s, min or h."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _settings(plan: Plan, allocation: SweepAllocation) -> Iterator[str]:
    """Yield how each model trains, a line each, where the spec leaves any of it open."""
    given = plan.spec.training.runtime
    open_settings = (given.zero_stage, given.micro_batch, given.offload, given.workers)
    if "auto" not in open_settings and not any(model.runtime for model in plan.spec.models):
        return
    models: dict[str, dict[str, None]] = {}
    for ladder in plan.ladders:
        chosen = allocation.runtimes[ladder.id]
        text = (
            f"workers {chosen.workers}, zero_stage {chosen.zero_stage}, micro_batch "
            f"{chosen.micro_batch}, offload {chosen.offload}"
        )
        models.setdefault(ladder.engine, {})[text] = None
    for model, settings in models.items():
        yield f"{model} trains with {'; or '.join(settings)}"


def _assumptions(plan: Plan, allocation: SweepAllocation) -> Iterator[str]:
    """Yield the assumptions behind the layout and its hours, a line each."""
    gpus = any(node.gpus for node in allocation.nodes)
    engines = plan.spec.resources.engines
    if gpus:
        known = any(node.gpu for node in allocation.nodes)
        slowest = f"{'that of the slowest, ' if known else ''}an {allocation.gpu_type}"
        yield (
            f"assumed: the speed of all GPUs is {slowest}; nothing recorded yet; engines and "
            f"scorers start while trainers do; start-up, loading, saving and swaps from published "
            f"figures, not measured; {CPUS_PER_GPU} CPUs per GPU on a described node "
            "that does not state its CPUs"
        )
    else:
        yield (
            f"assumed: {CPU_FLOPS / 1e9:.0f} GFLOP/s per core, start-up as on two cores; nothing "
            "recorded yet"
        )
    if gpus and engines.gpus is None and engines.tensor_parallel == 1:
        yield (
            "assumed: an engine has as few GPUs as hold its weights and the cache of "
            f"{CACHED_REQUESTS} requests of {engines.context:,} tokens in {engines.gpu_memory:.0%} "
            "of their memory (resources.engines.gpus sets it)"
        )


def _rows(layout: Layout) -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    """Yield (nodes, columns), with consecutive nodes that run the same in one row."""
    rows: list[tuple[list[int], tuple[str, str, str, str]]] = []
    for number, node in enumerate(layout.nodes, start=1):
        columns = _columns(layout, node)
        if rows and rows[-1][1] == columns:
            rows[-1][0].append(number)
        else:
            rows.append(([number], columns))
    for numbers, columns in rows:
        first, last = numbers[0], numbers[-1]
        label = layout.nodes[first - 1].label
        single = label if label.startswith("node ") else f"{first} ({label})"
        yield (f"nodes {first}-{last}" if last > first else single), columns


def _columns(layout: Layout, node: Node) -> tuple[str, str, str, str]:
    """Return the trainers, engines and scorers of a node, and the resources it has left."""
    whole = [
        slot
        for slot in layout.trainer_slots
        if all(worker.node == node.name for worker in slot.workers)
    ]
    parts = [
        sum(worker.node == node.name for worker in slot.workers)
        for slot in layout.trainer_slots
        if slot not in whole
    ]
    workers = layout.needs.workers
    each = _amount(layout.needs.worker.cpus, layout.needs.worker.gpus)
    trainers = [f"{len(whole)} of {_times(workers, each)}"] if whole else []
    trainers += [
        f"{count} of {workers} workers of {each}" + (f" ({n} times)" if n > 1 else "")
        for count, n in Counter(part for part in parts if part).items()
    ]
    engines = Counter(
        (", ".join(slot.groups) if len(slot.groups) == 1 else "any engine", _size(place))
        for slot in layout.engine_slots
        for place in slot.replicas
        if place.node == node.name
    )
    scorers = Counter(
        (name, _size(place))
        for name, places in layout.scorer_places.items()
        for place in places
        if place.node == node.name
    )
    phases = [layout.during(phase) for phase in Phase] if layout.turns else [layout]
    gpus = node.gpus - max(_used(each, node)[1] for each in phases)
    cpus = node.cpus - max(_used(each, node)[0] for each in phases)
    left = _amount(round(cpus, 2), round(gpus, 2) if node.gpus else 0.0)
    return "\n".join(trainers), _lines(engines), _lines(scorers), left


def _used(layout: Layout, node: Node) -> tuple[float, float]:
    """Return the CPUs and GPUs of a node that the layout's processes have."""
    here = [each for each in layout.allocations() if each.node == node.name]
    return sum(each.cpus for each in here), sum(share for each in here for _, share in each.gpus)


def _lines(counts: Counter[tuple[str, str]]) -> str:
    return "\n".join(f"{name}: {_times(count, size)}" for (name, size), count in counts.items())


def _times(count: int, each: str) -> str:
    return each if count == 1 else f"{count} x {each}"


def _size(place: Allocation) -> str:
    return _amount(place.cpus, sum(share for _, share in place.gpus))


def _amount(cpus: float, gpus: float) -> str:
    """Return the GPUs, or the CPUs where there are no GPUs: CPUs beside GPUs are cheap."""
    return f"{gpus:g} GPU" if gpus else f"{cpus:g} CPU"


def _hours(seconds: float) -> str:
    if seconds < 90 * 60:
        return f"about {max(1, round(seconds / 60)):,} min"
    return f"about {seconds / 3600:,.0f} h" if seconds > 36_000 else f"about {seconds / 3600:.1f} h"
