"""Estimates the work of a plan: seconds by kind of work, and what its engines and trainers need.

Based on the FLOP counts of `flops`. Estimates are for planning; recorded seconds are measured.
Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ..plan import (
    ANSWERS,
    CODE_LENGTH,
    DISTANCES,
    QUERIES,
    EvaluationRequest,
    Ladder,
    Plan,
    TaskInfo,
    parameters_in_name,
)
from ..spec import CORPORA, Runtime
from .flops import (
    LadderSeconds,
    Rate,
    generation_seconds,
    rate,
    reading_seconds,
    swap_seconds,
    training_seconds,
)
from .layout import EngineMemory, Layout, Workload
from .memory import ENGINE_GIB, engine_gib
from .settings import LadderKind
from .worker_count import LadderProfile

WIDTH = {"float32": 4, "bfloat16": 2}
"""Bytes of a value by dtype."""
SWAPS = "swaps"
"""Kind of work besides those of requests: engines change their weights."""
DEFAULT_GPU = "A800"
"""GPU type assumed for a cluster whose GPU types are unknown."""


def engine_memory(plan: Plan) -> dict[str, EngineMemory]:
    """Return the GPU memory that each engine group of the plan needs, by group name."""
    engines, memory = plan.spec.resources.engines, {}
    for name, group in plan.groups.items():
        one_gpu = group.pairs or engines.engine == "transformers"
        if group.parameters is None:
            memory[name] = EngineMemory(one_gpu=one_gpu)
            continue
        models = 2 if group.pairs else 1
        gib = engine_gib(models * group.parameters, WIDTH[group.dtype], engines.context)
        memory[name] = EngineMemory(*gib, one_gpu=one_gpu)
    return memory


def ladder_profile(plan: Plan, kinds: Iterable[LadderKind]) -> LadderProfile:
    """Return the properties of the plan's ladders that the number of workers depends on."""
    kinds = tuple(kinds)
    depth = dict.fromkeys(plan.starts, 0)
    at_once: Counter[int] = Counter()
    position = {state: i for i, state in enumerate(plan.states)}  # parents before children
    for ladder in sorted(plan.ladders, key=lambda each: position[each.parent_id]):
        at_once[depth[ladder.parent_id]] += 1
        depth |= {rung.state_id: depth[ladder.parent_id] + 1 for rung in ladder.rungs}

    def gib(workers: int, offloading: bool) -> float | None:
        sizes = [kind.least_gib(workers, offloading) for kind in kinds]
        known = [size for size in sizes if size is not None]
        return max(known) if known and len(known) == len(sizes) else None

    batch = min((each.stage.recipe.global_batch for each in plan.ladders), default=1)
    return LadderProfile(batch, max(at_once.values(), default=1), gib)


def scorers_of(plan: Plan, tasks: Iterable[str] | None = None) -> list[str]:
    """Return the names of the scorers that answers of these tasks need (None: of all tasks)."""
    probes = plan.probes if tasks is None else {task: plan.probes[task] for task in tasks}
    return sorted({probe.scorer for probe in probes.values() if probe.scorer})


def scorer_gib(plan: Plan) -> float | None:
    """Return the GPU memory of the plan's largest scorer in GiB, None if no size is known.

    A scorer that the task trains itself is too small to count.
    """
    models = [task.scorer.hub or task.scorer.path for task in plan.spec.task if task.scorer]
    sizes = [size for model in models if model and (size := parameters_in_name(model))]
    return max(sizes) * WIDTH["bfloat16"] / 2**30 + ENGINE_GIB if sizes else None


def slowest_gpu(layout: Layout) -> str:
    """Return the slowest known GPU type of the layout's nodes; `DEFAULT_GPU` if none is known."""
    known = {
        node.gpu_type: gpu.flops for node in layout.nodes if node.gpu_type and (gpu := node.gpu)
    }
    return min(known, key=lambda gpu_type: known[gpu_type], default=DEFAULT_GPU)


def workload_of(plan: Plan, tasks: Mapping[str, TaskInfo]) -> Workload:
    """Return the seconds of training and of answering, whose ratio divides the GPUs.

    The ratio hardly depends on the GPU type, so `DEFAULT_GPU` is used.
    """
    workers = fewest_workers(plan.spec.training.runtime)
    seconds = gpu_seconds(plan, tasks, DEFAULT_GPU)
    answering = sum(seconds.values()) - seconds["training"] - seconds["scores"]
    return Workload(seconds["training"] / workers, answering)


def gpu_seconds(plan: Plan, tasks: Mapping[str, TaskInfo], device: str) -> dict[str, float]:
    """Return the GPU-seconds of each kind of work, with one GPU per worker and per replica.

    Keys are "training", "answers", "scores", and where requested "code lengths" and "distances".
    Loading and saving count, swaps as answers; start-up and waiting do not.
    """
    runtime = plan.spec.training.runtime
    workers = fewest_workers(runtime)
    trainer, one = rate(workers, 0, 1, device), rate(1, 0, 1, device)
    training = sum(
        workers * ladder_seconds(plan, ladder, tasks, trainer, runtime, workers).total
        for ladder in plan.ladders
    )
    answering = dict.fromkeys((ANSWERS, CODE_LENGTH, DISTANCES, SWAPS), 0.0)
    for took in answering_seconds(plan, tasks, dict.fromkeys(plan.groups, one)).values():
        for kind, each in took.items():
            answering[kind] += each
    scoring = sum(scoring_seconds(plan, one).values())
    answers = answering[ANSWERS] + answering[SWAPS]
    seconds = {"training": training, "answers": answers, "scores": scoring}
    seconds |= {"code lengths": answering[CODE_LENGTH]} if texts_per_state(plan) else {}
    return seconds | ({"distances": answering[DISTANCES]} if answering[DISTANCES] else {})


def gpu_hours(plan: Plan, tasks: Mapping[str, TaskInfo], layout: Layout) -> float | None:
    """Return the GPU-hours of the whole plan on the layout's slowest GPU type.

    None if the layout uses no GPU.
    """
    if not layout.needs.uses_gpus:
        return None
    return sum(gpu_seconds(plan, tasks, slowest_gpu(layout)).values()) / 3600


def fewest_workers(runtime: Runtime) -> int:
    """Return the spec's number of workers, or the smallest that it allows."""
    workers = runtime.workers
    return workers if isinstance(workers, int) else 1 if workers == "auto" else workers[0]


def ladder_seconds(
    plan: Plan,
    ladder: Ladder,
    tasks: Mapping[str, TaskInfo],
    at: Rate,
    runtime: Runtime,
    workers: int,
) -> LadderSeconds:
    """Return the estimated seconds of a ladder; an `auto` of `runtime` counts as not offloaded."""
    return training_seconds(
        plan.groups[ladder.engine].parameters,
        ladder.examples,
        tasks[ladder.task].mean_tokens,
        ladder.stage.recipe,
        len(ladder.rungs),
        at,
        runtime,
        workers,
    )


def answering_seconds(
    plan: Plan, tasks: Mapping[str, TaskInfo], engines: Mapping[str, Rate]
) -> dict[str, dict[str, float]]:
    """Return the seconds of each engine group's work on one engine, by kind of work.

    `engines` gives the speed of an engine of each group that has one. Kinds are those of requests,
    and `SWAPS`; answers to lesson queries count as answers.
    """
    seconds = {
        group: dict.fromkeys((ANSWERS, CODE_LENGTH, DISTANCES, SWAPS), 0.0) for group in engines
    }
    swapped: set[tuple[str, str]] = set()
    for request in plan.requests():
        name = plan.engine_of(request)
        if name not in engines:
            continue
        group, at = plan.groups[name], engines[name]
        kind = ANSWERS if request.kind == QUERIES else request.kind
        seconds[name][kind] += _request_seconds(plan, request, tasks, at)
        if (name, request.state_id) not in swapped:
            swapped.add((name, request.state_id))
            models = 2 if group.pairs else 1
            swap = swap_seconds(group.parameters, WIDTH[group.dtype], at)
            seconds[name][SWAPS] += models * swap
    return seconds


def _request_seconds(
    plan: Plan, request: EvaluationRequest, tasks: Mapping[str, TaskInfo], at: Rate
) -> float:
    """Return the seconds of a request on an engine that holds the state."""
    generation, size = plan.spec.generation, plan.groups[plan.engine_of(request)].parameters
    answers, tokens = generation.prompts * generation.samples, generation.max_tokens
    if request.kind == CODE_LENGTH:
        texts, mean_tokens = texts_per_state(plan), tasks[request.task].mean_tokens
        # One call for each distribution of text.
        calls = len(CORPORA) * at.costs.request
        return calls + reading_seconds(size, texts, mean_tokens, at)
    if request.kind == DISTANCES:
        return at.costs.request + 2 * reading_seconds(size, answers, tokens, at)
    count = answers_per_teacher(plan) if request.kind == QUERIES else answers
    return at.costs.request + generation_seconds(size, count, tokens, at)


def scoring_seconds(plan: Plan, backend: Rate) -> dict[str, float]:
    """Return the seconds of each scorer on one backend, by scorer name.

    The arithmetic of a scorer that the task trains itself is too small to count.
    """
    generation = plan.spec.generation
    scorers = {task.name: task.scorer for task in plan.spec.task}
    seconds: dict[str, float] = {}
    for request in plan.requests():
        scorer = scorers[request.task]
        if request.kind != ANSWERS or scorer is None:
            continue
        took = backend.costs.request
        if (model := scorer.hub or scorer.path) is not None:
            answers = generation.prompts * generation.samples
            took += reading_seconds(
                parameters_in_name(model), answers, generation.max_tokens, backend
            )
        name = plan.probes[request.task].scorer
        seconds[name] = seconds.get(name, 0.0) + took
    return seconds


def trained_scorers(plan: Plan) -> list[str]:
    """Return the names of the scorers that are trained before they score."""
    own = [
        task.name
        for task in plan.spec.task
        if task.scorer and not (task.scorer.hub or task.scorer.path)
    ]
    return scorers_of(plan, own)


def texts_per_state(plan: Plan) -> int:
    """Return the number of texts whose code length is measured under each state."""
    probe = plan.spec.probes.code_length
    return probe.texts * len(CORPORA) if probe else 0


def answers_per_teacher(plan: Plan) -> int:
    """Return the number of answers that each teacher state gives for lessons."""
    lessons = plan.spec.lessons
    return lessons.queries * plan.spec.generation.samples if lessons else 0
