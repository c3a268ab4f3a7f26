"""What a plan's work takes: GPU-seconds on a kind of device, and hours by the clock on a layout.

Estimates to plan by, from `price`; what was recorded is the truth. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ..plan import (
    ANSWERS,
    CODE_LENGTH,
    DISTANCES,
    QUERIES,
    Ladder,
    Plan,
    TaskInfo,
    parameters_in_name,
)
from ..spec import CORPORA, Runtime
from .flops import Rate, generation_seconds, rate, reading_seconds, training_seconds
from .layout import EngineMemory, Layout, Workload
from .memory import engine_gib, worker_gib
from .worker_count import LadderProfile

WIDTH = {"float32": 4, "bfloat16": 2}
"""Bytes of a value in memory."""
DEFAULT_GPU = "A800"
"""The device that is assumed where a cluster's is not known."""


def engine_memory(plan: Plan) -> dict[str, EngineMemory]:
    """What is known of the memory that each kind of engine takes."""
    engines, found = plan.spec.resources.engines, {}
    for name, group in plan.groups.items():
        alone = group.pairs or engines.engine == "transformers"
        if group.parameters is None:
            found[name] = EngineMemory(one_gpu=alone)
            continue
        held = 2 if group.pairs else 1
        gib = engine_gib(held * group.parameters, WIDTH[group.dtype], engines.context)
        found[name] = EngineMemory(*gib, one_gpu=alone)
    return found


def ladder_profile(plan: Plan) -> LadderProfile:
    """What the number of a trainer's workers depends on."""
    depth = dict.fromkeys(plan.starts, 0)
    at_once: Counter[int] = Counter()
    place = {state: i for i, state in enumerate(plan.states)}  # parents before children
    for ladder in sorted(plan.ladders, key=lambda each: place[each.parent_id]):
        at_once[depth[ladder.parent_id]] += 1
        depth |= {rung.state_id: depth[ladder.parent_id] + 1 for rung in ladder.rungs}
    runtime = plan.spec.training.runtime
    largest = {(plan.groups[each.engine].parameters, each.stage.recipe) for each in plan.ladders}

    def gib(workers: int) -> float | None:
        sizes = [
            worker_gib(size, recipe, runtime.zero_stage, workers)
            for size, recipe in largest
            if size is not None
        ]
        return max(sizes) if sizes and len(sizes) == len(largest) else None

    batch = min((each.stage.recipe.global_batch for each in plan.ladders), default=1)
    return LadderProfile(batch, max(at_once.values(), default=1), gib)


def scorers_of(plan: Plan, tasks: Iterable[str] | None = None) -> list[str]:
    """Return the names of the scorers that answers of these tasks need (None: of all tasks)."""
    probes = plan.probes if tasks is None else {task: plan.probes[task] for task in tasks}
    return sorted({probe.scorer for probe in probes.values() if probe.scorer})


def slowest_gpu(layout: Layout) -> str:
    """The slowest known kind of GPU of the cluster; `DEFAULT_GPU` where none is known."""
    known = {node.kind: gpu.flops for node in layout.nodes if node.kind and (gpu := node.gpu)}
    return min(known, key=lambda kind: known[kind], default=DEFAULT_GPU)


def workload_of(plan: Plan, tasks: Mapping[str, TaskInfo]) -> Workload:
    """Training against answering, for a division of GPUs; on any device the same in proportion."""
    workers = fewest_workers(plan.spec.training.runtime)
    spent = gpu_seconds(plan, tasks, DEFAULT_GPU)
    answering = sum(spent.values()) - spent["training"] - spent["scores"]
    return Workload(spent["training"] / workers, answering)


def gpu_seconds(plan: Plan, tasks: Mapping[str, TaskInfo], device: str) -> dict[str, float]:
    """Seconds of each kind of work, times the GPUs that it holds: one per worker or replica."""
    workers = fewest_workers(plan.spec.training.runtime)
    at, one = rate(workers, 0, 1, device), rate(1, 0, 1, device)
    training = sum(
        workers * ladder_seconds(plan, ladder, tasks[ladder.task].mean_tokens, at)
        for ladder in plan.ladders
    )
    asked = answering_seconds(plan, tasks, one)
    scoring = sum(scoring_seconds(plan, one).values())
    spent = {"training": training, "answers": asked[ANSWERS], "scores": scoring}
    spent |= {"code lengths": asked[CODE_LENGTH]} if texts_per_state(plan) else {}
    return spent | ({"distances": asked[DISTANCES]} if plan.lessons else {})


def gpu_hours(plan: Plan, tasks: Mapping[str, TaskInfo], layout: Layout) -> float | None:
    """GPU-hours of the whole plan on the layout's kind of GPU; None where it uses no GPU."""
    if not layout.needs.uses_gpus:
        return None
    return sum(gpu_seconds(plan, tasks, slowest_gpu(layout)).values()) / 3600


def fewest_workers(runtime: Runtime) -> int:
    """The number of workers, or the least of those that the spec allows."""
    workers = runtime.workers
    return workers if isinstance(workers, int) else 1 if workers == "auto" else workers[0]


def ladder_seconds(plan: Plan, ladder: Ladder, tokens: float, at: Rate) -> float:
    """The estimated work of a ladder."""
    size = plan.groups[ladder.engine].parameters
    return training_seconds(
        size, ladder.examples, tokens, ladder.stage.recipe, len(ladder.rungs), at
    )


def answering_seconds(plan: Plan, tasks: Mapping[str, TaskInfo], one: Rate) -> dict[str, float]:
    """Seconds of all answers (to teach with, too), code lengths and distances on one engine."""
    g, texts = plan.spec.generation, texts_per_state(plan)
    answers = g.prompts * g.samples
    spent = {ANSWERS: 0.0, CODE_LENGTH: 0.0, DISTANCES: 0.0}
    for asked in plan.requests():
        size = plan.groups[plan.states[asked.state_id].engine].parameters
        if asked.kind == CODE_LENGTH:
            took = reading_seconds(size, texts, tasks[asked.task].mean_tokens, one)
            spent[CODE_LENGTH] += took
        elif asked.kind == DISTANCES:
            spent[DISTANCES] += 2 * reading_seconds(size, answers, g.max_tokens, one)
        else:
            count = answers_per_teacher(plan) if asked.kind == QUERIES else answers
            spent[ANSWERS] += generation_seconds(size, count, g.max_tokens, one)
    return spent


def scoring_seconds(plan: Plan, one: Rate) -> dict[str, float]:
    """Seconds of each scorer; a task's own is too small to count."""
    g = plan.spec.generation
    scorers = {task.name: task.scorer for task in plan.spec.task}
    spent: dict[str, float] = {}
    for asked in plan.requests():
        scorer = scorers[asked.task]
        backend = scorer.hub or scorer.path if scorer else None
        if asked.kind == ANSWERS and backend is not None:
            size = parameters_in_name(backend)
            took = reading_seconds(size, g.prompts * g.samples, g.max_tokens, one)
            name = plan.probes[asked.task].scorer
            spent[name] = spent.get(name, 0.0) + took
    return spent


def texts_per_state(plan: Plan) -> int:
    """The texts that each state's code length is measured of."""
    asked = plan.spec.probes.code_length
    return asked.texts * len(CORPORA) if asked else 0


def answers_per_teacher(plan: Plan) -> int:
    """The answers that each teacher gives."""
    asked = plan.spec.lessons
    return asked.queries * plan.spec.generation.samples if asked else 0
