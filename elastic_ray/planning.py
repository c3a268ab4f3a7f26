"""From a spec to states, ladders and probes.

`plan_sweep(spec, tasks, folders)` gives a `Plan`. Pure; 100,000 cells plan in seconds. `trials`
packs ladders into trials, `price` says what they cost.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from .plan import Asked, Cell, Group, Ladder, Node, Plan, Probe, Rung
from .price import parameters
from .spec import STAGES, Model, Scorer, Spec, SpecError, Task
from .states import (
    CLASSIFIER_VERSION,
    Stage,
    Start,
    corpus_id,
    digest,
    folder_start,
    hub_start,
    init_start,
    probe_id,
    scorer_id,
    state_id,
)

SCORER_TEXTS = 20
"""The fewest labelled texts that a task's own scorer is trained and judged on."""


class TaskFacts(Protocol):
    """What planning needs to know of a task; `tasks.Task` has it."""

    identity: dict[str, Any]
    sizes: dict[str, int]
    mean_tokens: float

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]: ...


def plan_sweep(spec: Spec, tasks: Mapping[str, TaskFacts], folders: Mapping[str, str]) -> Plan:
    """Plan the sweep; `folders` maps each `path` of the spec to the hash of its content.

    Raises `SpecError`, naming the field, where a size exceeds what the task's data holds.
    """
    _check_sizes(spec, tasks)
    draft = _Draft()
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
            root = draft.start(start, task.name, group.name)
            for pretrain, base in _bases(draft, spec, model, root, data, group.name):
                point = (model.name, task.name, pretrain)
                for seed in spec.seeds:
                    cells.append(Cell(*point, 0, 0, seed, base))
                    for positive in spec.positive:
                        up = draft.grow(base, stages["positive", seed], positive, group.name)
                        for negative in curve:
                            down = stages["negative", seed]
                            state = draft.grow(up, down, negative, group.name) if negative else up
                            cells.append(Cell(*point, positive, negative, seed, state))
    ladders = tuple(_fuse(draft.nodes, draft.task_of))
    return Plan(
        spec,
        draft.starts,
        draft.nodes,
        ladders,
        tuple(cells),
        probes,
        draft.groups,
        _asked(spec, draft.nodes, ladders),
        draft.start_task,
    )


class _Draft:
    """The graph while it grows; a state that is there is not added again."""

    def __init__(self) -> None:
        self.starts: dict[str, Start] = {}
        self.nodes: dict[str, Node] = {}
        self.groups: dict[str, Group] = {}
        self.start_task: dict[str, str] = {}
        self.task_of: dict[str, str] = {}
        self._task = ""

    def start(self, start: Start, task: str, engine: str) -> str:
        self._task = task
        state = start.state_id
        if state not in self.nodes:
            self.starts[state] = start
            self.start_task[state] = task
            self.nodes[state] = Node(state, None, None, 0, engine)
        return state

    def grow(self, parent: str, stage: Stage, examples: int, engine: str) -> str:
        state = state_id(parent, stage, examples)
        if state not in self.nodes:
            self.nodes[state] = Node(state, parent, stage, examples, engine)
            self.task_of[state] = self._task
        return state


def _bases(
    draft: _Draft, spec: Spec, model: Model, root: str, data: str, engine: str
) -> Iterator[tuple[int | None, str]]:
    """(pre-training size, state) of each base line of the model."""
    if not model.pretrain:
        yield None, root
        return
    seed = model.init.seed if model.init else 0
    stage = Stage("pretrain", "pretrain", seed, spec.training.pretrain, data)
    for size in model.pretrain:
        yield size, draft.grow(root, stage, size, engine)


def _start(model: Model, facts: TaskFacts, folders: Mapping[str, str]) -> Start:
    if model.init is not None:
        return init_start(model.init, facts.tokenizer_identity(model.init.vocabulary))
    if model.hub is not None and model.revision is not None:
        return hub_start(model.hub, model.revision, model.trust_remote_code)
    assert model.path is not None  # exactly one of the three, by the schema
    return folder_start(os.path.abspath(model.path), folders[model.path], model.trust_remote_code)


def _group(spec: Spec, model: Model, start: Start, facts: TaskFacts) -> Group:
    """Models share engines when they differ in their weights only."""
    dtype = _dtype(spec)
    lora = [r.lora.rank for r in (spec.training.positive, spec.training.negative) if r.lora]
    shape: dict[str, Any] = dict(start.identity)
    if model.init is not None:
        shape["init"] = {k: v for k, v in shape["init"].items() if k != "seed"}
    kind = model.init.architecture if model.init else start.repo or "folder"
    kind = kind.rpartition("/")[2]
    name = f"{kind}-{digest([shape, dtype], 6)}"
    vocabulary = facts.tokenizer_identity(model.init.vocabulary) if model.init else {}
    size = parameters(model, vocabulary.get("vocab_size"))
    return Group(name, dtype, max(lora, default=None), size, model.trust_remote_code)


def _dtype(spec: Spec) -> str:
    """The precision that answers are computed in: that of the fine-tuned states."""
    return {"fp32": "float32", "bf16": "bfloat16"}[spec.training.positive.precision]


def _probe(spec: Spec, task: Task, facts: TaskFacts, folders: Mapping[str, str]) -> Probe:
    measured, dtype = spec.probes.code_length, _dtype(spec)
    return Probe(
        probe_id(facts.identity, spec.generation, dtype),
        scorer_id(task.scorer, _origin(task.scorer, facts, folders)),
        task.name,
        {kind: corpus_id(kind, facts.identity, measured, dtype) for kind in STAGES}
        if measured
        else {},
    )


def _origin(scorer: Scorer, facts: TaskFacts, folders: Mapping[str, str]) -> dict[str, Any]:
    if scorer.hub:
        return {}
    if scorer.path:
        return {"content": folders[scorer.path]}
    return {"trained_on": facts.identity, "classifier": CLASSIFIER_VERSION}


def _fuse(nodes: Mapping[str, Node], task_of: Mapping[str, str]) -> Iterator[Ladder]:
    """The fewest runs that pass through every state, each exactly as if trained alone.

    Sizes of one stage and parent lie on one run if all but the last are whole global batches; a
    size that is not, and is not the largest, ends a run of its own.
    """
    siblings: dict[tuple[str, str], list[Node]] = defaultdict(list)
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


def _asked(spec: Spec, nodes: Mapping[str, Node], ladders: Sequence[Ladder]) -> dict[str, Asked]:
    """Examples trained, for fine-tuning and for pre-training; further epochs are not counted."""
    starts = sum(max(1, len(model.pretrain)) for model in spec.models) * len(spec.task)
    curves = starts * len(spec.seeds)
    curve = spec.curve_sizes()
    tuned = curves * (sum(spec.positive) * len(curve) + sum(curve) * len(spec.positive))
    cells = len(spec.seeds) * (1 + len(spec.positive) * len(curve))
    pretrained = cells * len(spec.task) * sum(sum(model.pretrain) for model in spec.models)

    def count(things: Iterable[Node | Ladder], pretrain: bool) -> int:
        return sum(
            thing.examples
            for thing in things
            if thing.stage is not None and (thing.stage.kind == "pretrain") == pretrain
        )

    states = list(nodes.values())
    return {
        "fine-tuning": Asked(tuned, count(states, False), count(ladders, False)),
        "pre-training": Asked(pretrained, count(states, True), count(ladders, True)),
    }


def _check_sizes(spec: Spec, tasks: Mapping[str, TaskFacts]) -> None:
    problems = []
    for i, task in enumerate(spec.task):
        facts = tasks[task.name]
        wanted = [("positive", "positive", spec.positive), ("negative", "negative", spec.negative)]
        for k, model in enumerate(spec.models):
            wanted.append((f"models.{k}.pretrain", "pretrain", model.pretrain))
        for where, pool, sizes in wanted:
            held = facts.sizes.get(pool, 0)
            if sizes and max(sizes) > held:
                problems.append(
                    f"{where}: found {max(sizes):,} examples; task {task.name} holds {held:,} "
                    f"{pool} examples"
                )
        judge, texts = task.scorer, facts.sizes.get("scorer", 0)
        if not (judge.hub or judge.path) and texts < SCORER_TEXTS:
            problems.append(
                f"task.{i}.scorer: task {task.name} holds {texts} labelled texts to train one on; "
                f"at least {SCORER_TEXTS}, or give its hub and revision, or its path"
            )
        most = facts.sizes.get("prompts")
        if most is not None and spec.generation.prompts > most:
            problems.append(
                f"generation.prompts: found {spec.generation.prompts:,}; task {task.name} holds "
                f"{most:,} held-out prompts"
            )
        most, measured = facts.sizes.get("texts"), spec.probes.code_length
        if most is not None and measured and measured.texts > most:
            problems.append(
                f"probes.code_length.texts: found {measured.texts:,}; task {task.name} holds "
                f"{most:,} held-out texts of each distribution"
            )
    if problems:
        raise SpecError("\n".join(dict.fromkeys(problems)))
