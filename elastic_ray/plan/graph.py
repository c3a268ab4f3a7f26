"""What a sweep is made of once it is planned: states, ladders, cells, questions.

`planning.plan_sweep` makes a `Plan`: every cell with its state, every state once however many cells
share it, and the states fused into *ladders*, the training runs that pass through several of them
(design, rule 3). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from ..spec import Spec
from .identity import Answers, Stage, Start

Dependency: TypeAlias = str | Answers
"""A state, by its id, or a state's answers."""


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

    @property
    def needs(self) -> frozenset[Dependency]:
        """What must be on record before it can train."""
        learnt = {self.stage.answers} if self.stage.answers else set()
        return frozenset({self.parent_id, *learnt})

    @property
    def made_from(self) -> tuple[str, ...]:
        """The states without which it cannot be: the one it starts from, and its teacher."""
        return _made_from(self.parent_id, self.stage)


@dataclass(frozen=True, slots=True)
class State:
    """A state in the graph: `examples` of `stage` from `parent_id`; a start has neither."""

    state_id: str
    parent_id: str | None
    stage: Stage | None
    examples: int
    engine: str
    """The engines that can hold it: one name per architecture, tokenizer and precision."""

    @property
    def made_from(self) -> tuple[str, ...]:
        """The states without which it cannot be; none for a start."""
        return _made_from(self.parent_id, self.stage)


def _made_from(parent: str | None, stage: Stage | None) -> tuple[str, ...]:
    teacher = stage.answers.state_id if stage and stage.answers else None
    return tuple(state for state in (parent, teacher) if state is not None)


@dataclass(frozen=True, slots=True)
class Probe:
    """The questions of one task: `probe_id` for the answers, `scorer` for what judges them (empty
    where nothing does).

    `corpora` are what code lengths are measured of, the id of each by the distribution that its
    texts are of; empty where none are asked for. `queries` and `distances` are those of lessons.
    """

    probe_id: str
    scorer: str
    task: str
    corpora: Mapping[str, str]
    queries: str | None = None
    distances: str | None = None


ANSWERS, CODE_LENGTH, QUERIES, DISTANCES = "answers", "code_length", "queries", "distances"


class EvaluationRequest(NamedTuple):
    """What a state is asked, by `kind`.

    Its answers to a task's prompts; its code length of the task's texts; its answers to the prompts
    that another state learns from; its distances from `reference` on that one's answers.
    """

    state_id: str
    task: str
    kind: str
    reference: str | None = None

    @property
    def states(self) -> tuple[str, ...]:
        """The states whose weights it takes to answer."""
        return (self.state_id,) if self.reference is None else (self.state_id, self.reference)


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


@dataclass(frozen=True, slots=True)
class Lesson:
    """A state that learnt another one's answers: `teacher` and `student` are positive sizes, `pair`
    their numbers, the smaller first."""

    model: str
    task: str
    pretrain: int | None
    pair: tuple[int, int]
    teacher: int
    student: int
    seed: int
    state_id: str
    teacher_id: str
    student_id: str

    @property
    def direction(self) -> str:
        """`inverse` where the teacher is the earlier state (paper, section 3.3.2)."""
        return "inverse" if self.teacher < self.student else "forward"


Point: TypeAlias = Cell | Lesson


@dataclass(frozen=True)
class EngineGroup:
    """States that one kind of engine serves: an architecture, a tokenizer, a precision.

    `pairs`: the engine compares two of them at a time, token by token, in place of answering.
    """

    name: str
    dtype: str
    lora_rank: int | None
    parameters: int | None
    trust_remote_code: bool
    pairs: bool = False


def pairs_of(engine: str) -> str:
    """The name of the engines that compare states of that kind."""
    return f"{engine}-pairs"


@dataclass(frozen=True)
class Plan:
    """A sweep as it will run. `nodes` holds parents before children."""

    spec: Spec
    starts: Mapping[str, Start]
    states: Mapping[str, State]
    ladders: tuple[Ladder, ...]
    cells: tuple[Cell, ...]
    probes: Mapping[str, Probe]
    groups: Mapping[str, EngineGroup]
    asked: Mapping[str, ExampleCounts]
    start_task: Mapping[str, str] = field(default_factory=dict)
    """The task whose tokenizer a start uses (for `init`), by state id."""
    lessons: tuple[Lesson, ...] = ()

    @property
    def points(self) -> tuple[Point, ...]:
        """All that is measured: the cells, then the lessons."""
        return (*self.cells, *self.lessons)

    def requests(self) -> dict[EvaluationRequest, Probe]:
        """Every question to a state that some point is about, with its probe; in grid order."""
        return {
            question: self.probes[point.task]
            for point in self.points
            for question in self.requests_of(point)
        }

    def requests_of(self, point: Point) -> Iterator[EvaluationRequest]:
        """The questions without which a point is not measured."""
        if isinstance(point, Lesson):
            yield EvaluationRequest(point.teacher_id, point.task, QUERIES)
            yield EvaluationRequest(
                point.student_id, point.task, DISTANCES, point.teacher_id
            )  # before it
            yield EvaluationRequest(point.state_id, point.task, DISTANCES, point.teacher_id)
            return
        yield EvaluationRequest(point.state_id, point.task, ANSWERS)
        if self.spec.probes.code_length:
            yield EvaluationRequest(point.state_id, point.task, CODE_LENGTH)

    def engine_of(self, question: EvaluationRequest) -> str:
        """The kind of engine that a question goes to, by its group's name."""
        engine = self.states[question.state_id].engine
        return pairs_of(engine) if question.kind == DISTANCES else engine

    def lineage(self, state: str) -> dict[str, Any]:
        """Start and stages of a state, as the `lineage` column records them."""
        stages: list[dict[str, Any]] = []
        node = self.states[state]
        while node.stage is not None and node.parent_id is not None:
            stages.append({"state_id": node.state_id, **node.stage.describe(node.examples)})
            node = self.states[node.parent_id]
        start = self.starts[node.state_id]
        origin = {"state_id": node.state_id, "kind": start.kind, **start.identity}
        return {"start": origin, "stages": stages[::-1]}

    def full_ancestor(self, state: str) -> str:
        """The nearest state, itself included, whose checkpoint holds whole weights (not LoRA)."""
        node = self.states[state]
        while node.stage is not None and node.stage.recipe.lora and node.parent_id:
            node = self.states[node.parent_id]
        return node.state_id


@dataclass(frozen=True, slots=True)
class ExampleCounts:
    """Examples of one kind of stage: trained cell by cell, after sharing, and after fusing."""

    cell_by_cell: int
    shared: int
    fused: int
