"""A layout as a person reads it: which nodes train, which answer, which score, and how long all of
it takes; `--dry-run` prints it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from ..cluster.inventory import available_nodes
from ..placement import (
    CACHED_REQUESTS,
    CPUS_PER_GPU,
    Allocation,
    Layout,
    Node,
    describe_nodes,
    engine_memory,
    estimate_wall_clock,
    ladder_profile,
    lay_out,
    scorers_of,
    settle_worker_count,
    slowest_gpu,
    workload_of,
)
from ..plan import Plan, TaskInfo
from ..spec import SpecError


def print_layout(
    console: Console,
    plan: Plan,
    tasks: Mapping[str, TaskInfo],
    nodes: Sequence[Node],
    where: str,
) -> None:
    """Print who would run where on the nodes, called `where`, and the hours by the clock.

    Raises `SpecError` where the sweep has no room on them.
    """
    resources, kinds, scorers = plan.spec.resources, engine_memory(plan), scorers_of(plan)
    runtime = settle_worker_count(
        plan.spec.training.runtime, ladder_profile(plan), nodes, resources, kinds, scorers
    )
    layout = lay_out(nodes, runtime, resources, kinds, scorers, workload_of(plan, tasks))
    console.print(f"layout on {where}: {describe_nodes(nodes)}", markup=False, soft_wrap=True)
    table = Table()
    for head in ("node", "trainers", "engines", "scorers", "left"):
        table.add_column(head)
    for names, parts in _rows(layout):
        table.add_row(names, *parts)
    console.print(table)
    took = estimate_wall_clock(plan, tasks, layout)
    console.print(
        f"by the clock: {_hours(took.longest)} (training {_hours(took.training)} on "
        f"{layout.trainers} trainer(s), answers {_hours(took.answers)} on "
        f"{layout.open_groups * layout.replicas} engine(s), scores {_hours(took.scores)}: side by "
        "side, so the longest tells)",
        soft_wrap=True,
    )
    for line in _assumed(plan, layout):
        console.print(line, markup=False, soft_wrap=True)


def _assumed(plan: Plan, layout: Layout) -> Iterator[str]:
    """What the layout and its hours rest on, a line each."""
    gpus = any(node.gpus for node in layout.nodes)
    engines = plan.spec.resources.engines
    if gpus:
        known = any(node.gpu for node in layout.nodes)
        device = slowest_gpu(layout)
        pace = f"all GPUs at the pace of {'the slowest, ' if known else ''}an {device}"
        yield (
            f"assumed: {pace}; nothing recorded; engines and scorers start while trainers do; "
            f"{CPUS_PER_GPU} CPUs a GPU on a described node that says none"
        )
    else:
        yield "assumed: 25 GFLOP/s a core, cores not shared; nothing recorded"
    if gpus and engines.gpus is None and engines.tensor_parallel == 1:
        yield (
            "assumed: an engine has as few GPUs as hold its weights and the cache of "
            f"{CACHED_REQUESTS} requests of {engines.context:,} tokens in {engines.gpu_memory:.0%} "
            "of their memory (resources.engines.gpus sets it)"
        )


def _rows(layout: Layout) -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    """(nodes, what they do) with neighbours that do the same in one row."""
    rows: list[tuple[list[int], tuple[str, str, str, str]]] = []
    for number, node in enumerate(layout.nodes, start=1):
        does = _does(layout, node)
        if rows and rows[-1][1] == does:
            rows[-1][0].append(number)
        else:
            rows.append(([number], does))
    for numbers, does in rows:
        first, last = numbers[0], numbers[-1]
        shown = layout.nodes[first - 1].shown
        one = shown if shown.startswith("node ") else f"{first} ({shown})"
        yield (f"nodes {first}-{last}" if last > first else one), does


def _does(layout: Layout, node: Node) -> tuple[str, str, str, str]:
    """What trains, answers and scores on a node, and what is left of it."""
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
    trains = [f"{len(whole)} of {_of(workers, each)}"] if whole else []
    trains += [
        f"{count} of {workers} workers of {each}" + (f" ({n} times)" if n > 1 else "")
        for count, n in Counter(part for part in parts if part).items()
    ]
    answers = Counter(
        (", ".join(slot.groups) if len(slot.groups) == 1 else "any engine", _taken(place))
        for slot in layout.engine_slots
        for place in slot.replicas
        if place.node == node.name
    )
    scores = Counter(
        (name, _taken(place))
        for name, places in layout.scorer_places.items()
        for place in places
        if place.node == node.name
    )
    here = [taken for taken in layout.allocations() if taken.node == node.name]
    gpus = node.gpus - sum(share for taken in here for _, share in taken.gpus)
    cpus = node.cpus - sum(taken.cpus for taken in here)
    left = _amount(round(cpus, 2), round(gpus, 2) if node.gpus else 0.0)
    return "\n".join(trains), _lines(answers), _lines(scores), left


def _lines(counted: Counter[tuple[str, str]]) -> str:
    return "\n".join(f"{name}: {_of(count, what)}" for (name, what), count in counted.items())


def _of(count: int, each: str) -> str:
    return each if count == 1 else f"{count} x {each}"


def _taken(place: Allocation) -> str:
    return _amount(place.cpus, sum(share for _, share in place.gpus))


def _amount(cpus: float, gpus: float) -> str:
    """GPUs where there are some: they are what is dear."""
    return f"{gpus:g} GPU" if gpus else f"{cpus:g} CPU"


def _hours(seconds: float) -> str:
    if seconds < 90 * 60:
        return f"about {max(1, round(seconds / 60)):,} min"
    return f"about {seconds / 3600:,.0f} h" if seconds > 36_000 else f"about {seconds / 3600:.1f} h"


def print_layout_at_hand(console: Console, plan: Plan, facts: Mapping[str, TaskInfo]) -> None:
    """The layout on what the sweep would run on now; a word where it has no room there."""
    where = "the cluster at hand"
    try:
        nodes, where = available_nodes()
        print_layout(console, plan, facts, nodes, where)
    except (SpecError, OSError) as e:
        said = f"no layout on {where}: {e}"
        console.print(said, markup=False, soft_wrap=True)
        console.print("--cluster 4x8xA100, say, shows one on another", markup=False)
