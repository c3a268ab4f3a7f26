"""Plans a sweep: from a spec to cells, states, ladders and probes.

`plan_sweep` returns a `Plan`. 100,000 cells are planned in seconds. `trials` bundles the ladders
into trials; `placement.estimate` estimates their cost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..spec import CORPORA, STAGES, Model, Scorer, Spec, Task
from .graph import (
    Cell,
    EngineGroup,
    Lesson,
    Plan,
    Probe,
    State,
    pairs_of,
)
from .identity import (
    CLASSIFIER_VERSION,
    Answers,
    Stage,
    Start,
    corpus_id,
    digest,
    distance_id,
    folder_start,
    hub_start,
    init_start,
    lesson_stage,
    probe_id,
    queries_id,
    scorer_id,
    state_id,
    undirected,
)
from .inputs import load_inputs
from .ladders import count_examples, fuse_ladders
from .model_shape import shape_of
from .model_size import parameters
from .task_info import TaskInfo, check_sizes


def plan_sweep(
    spec: Spec,
    tasks: Mapping[str, TaskInfo] | None = None,
    folders: Mapping[str, str] | None = None,
) -> Plan:
    """Return the plan of a sweep.

    `tasks` describes each task of the spec by name, and `folders` maps each `path` of the spec to
    the hash of its content. Where one is None, both are read with `inputs.load_inputs`. Raises
    `SpecError`, with the field, where a task's data or a folder is missing, or where a size
    exceeds the task's data.
    """
    if tasks is None or folders is None:
        inputs = load_inputs(spec, to_run=False)
        tasks, folders = inputs.task_info(), inputs.folders
    check_sizes(spec, tasks)
    draft = _Draft()
    lessons: list[Lesson] = []
    probes = {task.name: _probe(spec, task, tasks[task.name], folders) for task in spec.task}
    curve = spec.curve_sizes()
    cells: list[Cell] = []
    for task in spec.task:
        info = tasks[task.name]
        data = digest(info.identity)
        stages = {
            (kind, seed): Stage(kind, kind, seed, spec.training.recipe(kind), data)
            for kind in ("positive", "negative")
            for seed in spec.seeds
        }
        for model, seeds in _pretrained(spec):
            start = _start(model, info, folders)
            group = _group(spec, model, start, info)
            draft.groups.setdefault(group.name, group)
            if spec.lessons or spec.probes.base_distance:
                pairs = replace(group, name=pairs_of(group.name), pairs=True)
                draft.groups.setdefault(pairs.name, pairs)
            root = draft.start(start, task.name, group.name)
            for pretrain, base in _bases(draft, spec, model, task, tasks, root):
                point = (model.name, task.name, pretrain)
                for seed in seeds:
                    cells.append(Cell(*point, 0, 0, seed, base))
                    aligned: dict[int, str] = {}
                    for positive in spec.positive_sizes(task):
                        state = draft.train(base, stages["positive", seed], positive, task.name)
                        aligned[positive] = state
                        for negative in curve:
                            stage = stages["negative", seed]
                            child = (
                                draft.train(state, stage, negative, task.name)
                                if negative
                                else state
                            )
                            cells.append(Cell(*point, positive, negative, seed, child))
                    lessons += _lessons(draft, spec, probes[task.name], point, aligned, seed)
    ladders = tuple(fuse_ladders(draft.states, draft.task_of))
    return Plan(
        spec,
        draft.starts,
        draft.states,
        ladders,
        tuple(cells),
        probes,
        draft.groups,
        count_examples(spec, draft.states, ladders),
        draft.start_task,
        tuple(lessons),
    )


def _pretrained(spec: Spec) -> Iterator[tuple[Model, tuple[int, ...]]]:
    """Yield each model with its seeds; with replicates, each of its pre-training runs with one."""
    for model in spec.models:
        if model.replicates:
            yield from ((model.replicate(seed), (seed,)) for seed in spec.seeds)
        else:
            yield model, spec.seeds


class _Draft:
    """The graph under construction; adding an existing state changes nothing."""

    def __init__(self) -> None:
        self.starts: dict[str, Start] = {}
        self.states: dict[str, State] = {}
        self.groups: dict[str, EngineGroup] = {}
        self.start_task: dict[str, str] = {}
        self.task_of: dict[str, str] = {}

    def start(self, start: Start, task: str, engine: str) -> str:
        """Add a start state and return its id."""
        state = start.state_id
        if state not in self.states:
            self.starts[state] = start
            self.start_task[state] = task
            self.states[state] = State(state, None, None, 0, engine)
        return state

    def train(self, parent: str, stage: Stage, examples: int, task: str) -> str:
        """Add the state after `examples` of the task in `stage`, and return its id."""
        state = state_id(parent, stage, examples)
        if state not in self.states:
            engine = self.states[parent].engine
            self.states[state] = State(state, parent, stage, examples, engine)
            self.task_of[state] = task
        return state


def _bases(
    draft: _Draft,
    spec: Spec,
    model: Model,
    task: Task,
    tasks: Mapping[str, TaskInfo],
    root: str,
) -> Iterator[tuple[int | None, str]]:
    """Yield (pre-training size, state id) of each baseline of the model."""
    bases: list[tuple[int | None, str]] = [(None, root)]
    if model.pretrain:
        seed = model.init.seed if model.init else 0
        data = digest(undirected(tasks[task.name].identity))
        stage = Stage("pretrain", "pretrain", seed, spec.training.pretrain, data)
        bases = [(size, draft.train(root, stage, size, task.name)) for size in model.pretrain]
    for size, base in bases:
        if (instruct := task.instruct) is not None:
            data = digest(tasks[instruct.task].identity)
            stage = Stage("instruct", "positive", instruct.seed, spec.training.instruct, data)
            base = draft.train(base, stage, instruct.examples, instruct.task)
        yield size, base


def _lessons(
    draft: _Draft,
    spec: Spec,
    probe: Probe,
    point: tuple[str, str, int | None],
    aligned: Mapping[int, str],
    seed: int,
) -> Iterator[Lesson]:
    """Yield both paths of each requested pair; `aligned` holds state ids by positive size."""
    if spec.lessons is None or probe.queries is None:
        return
    examples = spec.lessons.queries * spec.generation.samples
    sizes = list(aligned)
    for pair in spec.lessons.pairs:
        earlier, later = (sizes[number - 1] for number in pair)
        for teacher, student in ((earlier, later), (later, earlier)):
            answers = Answers(aligned[teacher], probe.queries)
            stage = lesson_stage(answers, seed, spec.training.recipe("lesson"))
            state = draft.train(aligned[student], stage, examples, probe.task)
            ends = (aligned[teacher], aligned[student])
            yield Lesson(*point, pair, teacher, student, seed, state, *ends)


def _start(model: Model, info: TaskInfo, folders: Mapping[str, str]) -> Start:
    """Return the start state of a model."""
    if model.init is not None:
        return init_start(model.init, info.tokenizer_identity(model.init.vocabulary))
    if model.hub is not None and model.revision is not None:
        return hub_start(model.hub, model.revision, model.trust_remote_code)
    assert model.path is not None  # exactly one of the three, by the schema
    return folder_start(os.path.abspath(model.path), folders[model.path], model.trust_remote_code)


def _group(spec: Spec, model: Model, start: Start, info: TaskInfo) -> EngineGroup:
    """Return the engine group of a model: models that differ only in weights share one."""
    dtype = _dtype(spec)
    recipes = (spec.training.recipe(kind) for kind in STAGES)
    lora = [recipe.lora.rank for recipe in recipes if recipe.lora]
    shape: dict[str, Any] = dict(start.identity)
    if model.init is not None:
        shape["init"] = {k: v for k, v in shape["init"].items() if k != "seed"}
    kind = model.init.architecture if model.init else start.repo or "folder"
    kind = kind.rpartition("/")[2]
    name = f"{kind}-{digest([shape, dtype], 6)}"
    vocabulary = info.tokenizer_identity(model.init.vocabulary) if model.init else {}
    words = vocabulary.get("vocab_size")
    return EngineGroup(
        name,
        dtype,
        max(lora, default=None),
        parameters(model, words),
        model.trust_remote_code,
        shape_of(model, words),
    )


def _dtype(spec: Spec) -> str:
    """Return the torch dtype of the engines: the precision of the fine-tuned states."""
    return {"fp32": "float32", "bf16": "bfloat16"}[spec.training.positive.precision]


def _probe(spec: Spec, task: Task, info: TaskInfo, folders: Mapping[str, str]) -> Probe:
    """Return the ids of what is measured for a task."""
    code_length, dtype = spec.probes.code_length, _dtype(spec)
    scorer, lessons = task.scorer, spec.lessons
    answers = probe_id(info.identity, spec.generation, dtype)
    return Probe(
        answers,
        scorer_id(scorer, _origin(scorer, info, folders), spec.resources.scorers.context)
        if scorer
        else "",
        task.name,
        {kind: corpus_id(kind, info.identity, code_length, dtype) for kind in CORPORA}
        if code_length
        else {},
        queries_id(info.identity, spec.generation, lessons, dtype) if lessons else None,
        distance_id(answers) if lessons or spec.probes.base_distance else None,
    )


def _origin(scorer: Scorer, info: TaskInfo, folders: Mapping[str, str]) -> dict[str, Any]:
    """Return what identifies a scorer's weights besides its fields in the spec."""
    if scorer.hub:
        return {}
    if scorer.path:
        return {"content": folders[scorer.path]}
    return {"trained_on": info.identity, "classifier": CLASSIFIER_VERSION}
