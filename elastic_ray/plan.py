"""What a sweep is made of once it is planned: states, ladders, cells, questions.

`planning.plan_sweep` makes a `Plan`: every cell with its state, every state once however many cells
share it, and the states fused into *ladders*, the training runs that pass through several of them
(design, rule 3). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .spec import Spec
from .states import Stage, Start


@dataclass(frozen=True, slots=True)
class Rung:
    """A snapshot on a ladder: the state after `examples` of its stage."""

    state_id: str
    examples: int


@dataclass(frozen=True, slots=True)
class Ladder:
    """One training run from the parent's saved weights through `rungs`, sizes ascending."""

    parent_id: str
    stage: Stage
    rungs: tuple[Rung, ...]
    task: str
    engine: str

    @property
    def id(self) -> str:
        """The id of its last state, which no other ladder has."""
        return self.rungs[-1].state_id

    @property
    def examples(self) -> int:
        return self.rungs[-1].examples


@dataclass(frozen=True, slots=True)
class Node:
    """A state in the graph: `examples` of `stage` from `parent_id`; a start has neither."""

    state_id: str
    parent_id: str | None
    stage: Stage | None
    examples: int
    engine: str
    """The engines that can hold it: one name per architecture, tokenizer and precision."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The questions of one task: `probe_id` for the answers, `scorer` for what judges them.

    `corpora` are what code lengths are measured of, the id of each by the distribution that its
    texts are of; empty where none are asked for.
    """

    probe_id: str
    scorer: str
    task: str
    corpora: Mapping[str, str]


ANSWERS, CODE_LENGTH = "answers", "code_length"


class Question(NamedTuple):
    """What a state is asked: its answers to a task's prompts, or its code length of its texts."""

    state_id: str
    task: str
    kind: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A grid point and its state."""

    model: str
    task: str
    pretrain: int | None
    positive: int
    negative: int
    seed: int
    state_id: str


@dataclass(frozen=True)
class Group:
    """States that one kind of engine serves: an architecture, a tokenizer, a precision."""

    name: str
    dtype: str
    lora_rank: int | None
    parameters: int | None
    trust_remote_code: bool


@dataclass(frozen=True)
class Plan:
    """A sweep as it will run. `nodes` holds parents before children."""

    spec: Spec
    starts: Mapping[str, Start]
    nodes: Mapping[str, Node]
    ladders: tuple[Ladder, ...]
    cells: tuple[Cell, ...]
    probes: Mapping[str, Probe]
    groups: Mapping[str, Group]
    asked: Mapping[str, Asked]
    start_task: Mapping[str, str] = field(default_factory=dict)
    """The task whose tokenizer a start uses (for `init`), by state id."""

    def questions(self) -> dict[Question, Probe]:
        """Every question to a state that some cell is about, with its probe; in grid order."""
        return {
            question: self.probes[cell.task]
            for cell in self.cells
            for question in self.asked_of(cell)
        }

    def asked_of(self, cell: Cell) -> Iterator[Question]:
        """The questions to a cell's state."""
        yield Question(cell.state_id, cell.task, ANSWERS)
        if self.spec.probes.code_length:
            yield Question(cell.state_id, cell.task, CODE_LENGTH)

    def lineage(self, state: str) -> dict[str, Any]:
        """Start and stages of a state, as the `lineage` column records them."""
        stages: list[dict[str, Any]] = []
        node = self.nodes[state]
        while node.stage is not None and node.parent_id is not None:
            stages.append({"state_id": node.state_id, **node.stage.describe(node.examples)})
            node = self.nodes[node.parent_id]
        start = self.starts[node.state_id]
        origin = {"state_id": node.state_id, "kind": start.kind, **start.identity}
        return {"start": origin, "stages": stages[::-1]}

    def full_ancestor(self, state: str) -> str:
        """The nearest state, itself included, whose checkpoint holds whole weights (not LoRA)."""
        node = self.nodes[state]
        while node.stage is not None and node.stage.recipe.lora and node.parent_id:
            node = self.nodes[node.parent_id]
        return node.state_id


@dataclass(frozen=True, slots=True)
class Asked:
    """Examples of one kind of stage: trained cell by cell, after sharing, and after fusing."""

    cell_by_cell: int
    shared: int
    fused: int
