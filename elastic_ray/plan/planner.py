"""From a spec to states, ladders and probes.

`plan_sweep(spec, tasks, folders)` gives a `Plan`. Pure; 100,000 cells plan in seconds. `trials`
packs ladders into trials, `price` says what they cost.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..spec import CORPORA, STAGES, Model, Scorer, Spec, Task
from .graph import (
    Cell,
    EngineGroup,
    ExampleCounts,
    Ladder,
    Lesson,
    Plan,
    Probe,
    Rung,
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
    lesson,
    probe_id,
    queries_id,
    scorer_id,
    state_id,
)
from .model_size import parameters
from .task_info import TaskInfo, check_sizes


def plan_sweep(spec: Spec, tasks: Mapping[str, TaskInfo], folders: Mapping[str, str]) -> Plan:
    """Plan the sweep; `folders` maps each `path` of the spec to the hash of its content.

    Raises `SpecError`, naming the field, where a size exceeds what the task's data holds.
    """
    check_sizes(spec, tasks)
    draft = _Draft()
    lessons: list[Lesson] = []
    probes = {task.name: _probe(spec, task, tasks[task.name], folders) for task in spec.task}
    curve = spec.curve_sizes()
    cells: list[Cell] = []
    for task in spec.task:
        facts = tasks[task.name]
        data = digest(facts.identity)
        stages = {
            (kind, seed): Stage(kind, kind, seed, spec.training.recipe(kind), data)
            for kind in ("positive", "negative")
            for seed in spec.seeds
        }
        for model in spec.models:
            start = _start(model, facts, folders)
            group = _group(spec, model, start, facts)
            draft.groups.setdefault(group.name, group)
            if spec.lessons:
                pairs = replace(group, name=pairs_of(group.name), pairs=True)
                draft.groups.setdefault(pairs.name, pairs)
            root = draft.start(start, task.name, group.name)
            for pretrain, base in _bases(draft, spec, model, task, tasks, root):
                point = (model.name, task.name, pretrain)
                for seed in spec.seeds:
                    cells.append(Cell(*point, 0, 0, seed, base))
                    slices: dict[int, str] = {}
                    for positive in spec.positive_sizes(task):
                        up = draft.grow(base, stages["positive", seed], positive, task.name)
                        slices[positive] = up
                        for negative in curve:
                            down = stages["negative", seed]
                            state = draft.grow(up, down, negative, task.name) if negative else up
                            cells.append(Cell(*point, positive, negative, seed, state))
                    lessons += _lessons(draft, spec, probes[task.name], point, slices, seed)
    ladders = tuple(_fuse(draft.states, draft.task_of))
    return Plan(
        spec,
        draft.starts,
        draft.states,
        ladders,
        tuple(cells),
        probes,
        draft.groups,
        _asked(spec, draft.states, ladders),
        draft.start_task,
        tuple(lessons),
    )


class _Draft:
    """The graph while it grows; a state that is there is not added again."""

    def __init__(self) -> None:
        self.starts: dict[str, Start] = {}
        self.states: dict[str, State] = {}
        self.groups: dict[str, EngineGroup] = {}
        self.start_task: dict[str, str] = {}
        self.task_of: dict[str, str] = {}

    def start(self, start: Start, task: str, engine: str) -> str:
        state = start.state_id
        if state not in self.states:
            self.starts[state] = start
            self.start_task[state] = task
            self.states[state] = State(state, None, None, 0, engine)
        return state

    def grow(self, parent: str, stage: Stage, examples: int, task: str) -> str:
        """The state after that many examples of the stage, which are the task's."""
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
    """(pre-training size, state) of each base line of the model."""
    bases: list[tuple[int | None, str]] = [(None, root)]
    if model.pretrain:
        seed = model.init.seed if model.init else 0
        data = digest(tasks[task.name].identity)
        stage = Stage("pretrain", "pretrain", seed, spec.training.pretrain, data)
        bases = [(size, draft.grow(root, stage, size, task.name)) for size in model.pretrain]
    for size, base in bases:
        if (first := task.instruct) is not None:
            data = digest(tasks[first.task].identity)
            stage = Stage("instruct", "positive", first.seed, spec.training.instruct, data)
            base = draft.grow(base, stage, first.examples, first.task)
        yield size, base


def _lessons(
    draft: _Draft,
    spec: Spec,
    probe: Probe,
    point: tuple[str, str, int | None],
    slices: Mapping[int, str],
    seed: int,
) -> Iterator[Lesson]:
    """Both paths between the slices of each pair that is asked for."""
    if spec.lessons is None or probe.queries is None:
        return
    examples = spec.lessons.queries * spec.generation.samples
    sizes = list(slices)
    for pair in spec.lessons.pairs:
        earlier, later = (sizes[number - 1] for number in pair)
        for teacher, student in ((earlier, later), (later, earlier)):
            taught = lesson(
                Answers(slices[teacher], probe.queries), seed, spec.training.recipe("lesson")
            )
            state = draft.grow(slices[student], taught, examples, probe.task)
            ends = (slices[teacher], slices[student])
            yield Lesson(*point, pair, teacher, student, seed, state, *ends)


def _start(model: Model, facts: TaskInfo, folders: Mapping[str, str]) -> Start:
    if model.init is not None:
        return init_start(model.init, facts.tokenizer_identity(model.init.vocabulary))
    if model.hub is not None and model.revision is not None:
        return hub_start(model.hub, model.revision, model.trust_remote_code)
    assert model.path is not None  # exactly one of the three, by the schema
    return folder_start(os.path.abspath(model.path), folders[model.path], model.trust_remote_code)


def _group(spec: Spec, model: Model, start: Start, facts: TaskInfo) -> EngineGroup:
    """Models share engines when they differ in their weights only."""
    dtype = _dtype(spec)
    recipes = (spec.training.recipe(kind) for kind in STAGES)
    lora = [recipe.lora.rank for recipe in recipes if recipe.lora]
    shape: dict[str, Any] = dict(start.identity)
    if model.init is not None:
        shape["init"] = {k: v for k, v in shape["init"].items() if k != "seed"}
    kind = model.init.architecture if model.init else start.repo or "folder"
    kind = kind.rpartition("/")[2]
    name = f"{kind}-{digest([shape, dtype], 6)}"
    vocabulary = facts.tokenizer_identity(model.init.vocabulary) if model.init else {}
    size = parameters(model, vocabulary.get("vocab_size"))
    return EngineGroup(name, dtype, max(lora, default=None), size, model.trust_remote_code)


def _dtype(spec: Spec) -> str:
    """The precision that answers are computed in: that of the fine-tuned states."""
    return {"fp32": "float32", "bf16": "bfloat16"}[spec.training.positive.precision]


def _probe(spec: Spec, task: Task, facts: TaskInfo, folders: Mapping[str, str]) -> Probe:
    measured, dtype = spec.probes.code_length, _dtype(spec)
    backend, taught = task.scorer, spec.lessons
    answers = probe_id(facts.identity, spec.generation, dtype)
    return Probe(
        answers,
        scorer_id(backend, _origin(backend, facts, folders)) if backend else "",
        task.name,
        {kind: corpus_id(kind, facts.identity, measured, dtype) for kind in CORPORA}
        if measured
        else {},
        queries_id(facts.identity, spec.generation, taught, dtype) if taught else None,
        distance_id(answers) if taught else None,
    )


def _origin(scorer: Scorer, facts: TaskInfo, folders: Mapping[str, str]) -> dict[str, Any]:
    if scorer.hub:
        return {}
    if scorer.path:
        return {"content": folders[scorer.path]}
    return {"trained_on": facts.identity, "classifier": CLASSIFIER_VERSION}


def _fuse(nodes: Mapping[str, State], task_of: Mapping[str, str]) -> Iterator[Ladder]:
    """The fewest runs that pass through every state, each exactly as if trained alone.

    Sizes of one stage and parent lie on one run if all but the last are whole global batches; a
    size that is not, and is not the largest, ends a run of its own.
    """
    siblings: dict[tuple[str, str], list[State]] = defaultdict(list)
    for node in nodes.values():
        if node.stage is not None and node.parent_id is not None:
            siblings[node.parent_id, node.stage.digest].append(node)
    for (parent, _), group in siblings.items():
        group.sort(key=lambda node: node.examples)
        stage = group[0].stage
        assert stage is not None
        batch = stage.recipe.global_batch
        if stage.fuses:
            along = [n for n in group[:-1] if n.examples % batch == 0] + group[-1:]
            apart = [n for n in group[:-1] if n.examples % batch]
        else:
            along, apart = [], group
        for run in [along, *([node] for node in apart)]:
            if run:
                rungs = tuple(Rung(n.state_id, n.examples) for n in run)
                yield Ladder(parent, stage, rungs, task_of[run[0].state_id], run[0].engine)


def _asked(
    spec: Spec, nodes: Mapping[str, State], ladders: Sequence[Ladder]
) -> dict[str, ExampleCounts]:
    """Examples trained, for fine-tuning and for pre-training; further epochs are not counted."""
    starts = sum(max(1, len(model.pretrain)) for model in spec.models)
    pretrained = sum(sum(model.pretrain) for model in spec.models)
    curve = spec.curve_sizes()
    tuned = taught = 0
    for task in spec.task:
        sizes = spec.positive_sizes(task)
        cells = 1 + len(sizes) * len(curve)
        examples = sum(sizes) * len(curve) + sum(curve) * len(sizes)
        for numbers in spec.lessons.pairs if spec.lessons else ():
            # Either path trains its teacher, its student, and what becomes of that.
            cells += 2
            learnt = spec.lessons.queries * spec.generation.samples if spec.lessons else 0
            examples += 2 * (sum(sizes[number - 1] for number in numbers) + learnt)
        examples += cells * (task.instruct.examples if task.instruct else 0)
        tuned += starts * len(spec.seeds) * examples
        taught += len(spec.seeds) * cells * pretrained

    def count(things: Iterable[State | Ladder], pretrain: bool) -> int:
        return sum(
            thing.examples
            for thing in things
            if thing.stage is not None and (thing.stage.kind == "pretrain") == pretrain
        )

    states = list(nodes.values())
    return {
        "fine-tuning": ExampleCounts(tuned, count(states, False), count(ladders, False)),
        "pre-training": ExampleCounts(taught, count(states, True), count(ladders, True)),
    }
