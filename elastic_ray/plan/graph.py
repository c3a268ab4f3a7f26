"""The graph of a planned sweep: cells, states, ladders, probes and evaluation requests.

`planner.plan_sweep` makes a `Plan`. It holds every cell with its state, every state once however
many cells share it, and the states fused into ladders: training runs that pass through several
states (docs/concepts.md#rule-3). Pure values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from ..spec import Spec
from .identity import Answers, Stage, Start
from .model_shape import ModelShape

Dependency: TypeAlias = str | Answers
"""What a ladder may depend on: a state, by its id, or a state's answers."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A snapshot of a ladder: the state after `examples` examples of the ladder's stage."""

    state_id: str
    examples: int


@dataclass(frozen=True, slots=True)
class Ladder:
    """One training run from the parent's saved weights through `rungs`."""

    parent_id: str
    stage: Stage
    rungs: tuple[Rung, ...]
    """Ascending in examples."""
    task: str
    """Task that the examples come from."""
    engine: str
    """Name of the engine group of its states."""

    @property
    def id(self) -> str:
        """Id of the last state, which belongs to no other ladder."""
        return self.rungs[-1].state_id

    @property
    def examples(self) -> int:
        """Examples of the whole run."""
        return self.rungs[-1].examples

    @property
    def needs(self) -> frozenset[Dependency]:
        """What must be recorded before the ladder can train."""
        answers = {self.stage.answers} if self.stage.answers else set()
        return frozenset({self.parent_id, *answers})

    @property
    def made_from(self) -> tuple[str, ...]:
        """Ids of the states it depends on: the parent, and for a lesson the teacher."""
        return _made_from(self.parent_id, self.stage)


@dataclass(frozen=True, slots=True)
class State:
    """A model state: the result of `examples` examples of `stage` from the state `parent_id`.

    A start state (a hub checkpoint, a folder or a random init) has neither stage nor parent.
    """

    state_id: str
    parent_id: str | None
    stage: Stage | None
    examples: int
    engine: str
    """Name of the engine group that can load it: one per architecture, tokenizer and precision."""

    @property
    def made_from(self) -> tuple[str, ...]:
        """Ids of the states it depends on: parent and teacher; none for a start state."""
        return _made_from(self.parent_id, self.stage)


def _made_from(parent: str | None, stage: Stage | None) -> tuple[str, ...]:
    teacher = stage.answers.state_id if stage and stage.answers else None
    return tuple(state for state in (parent, teacher) if state is not None)


@dataclass(frozen=True, slots=True)
class Probe:
    """Ids of what is measured for one task."""

    probe_id: str
    """Id of the answers: prompts and sampling."""
    scorer: str
    """Id of the scorer; empty where answers are not scored."""
    task: str
    corpora: Mapping[str, str]
    """Corpus ids by distribution (`spec.CORPORA`); empty where no code lengths are measured."""
    queries: str | None = None
    """Probe id of the answers that lessons are trained on; None without lessons."""
    distances: str | None = None
    """Probe id of the distances between states; None where none are measured."""


ANSWERS, CODE_LENGTH, QUERIES, DISTANCES = "answers", "code_length", "queries", "distances"
"""Kinds of evaluation requests."""


class EvaluationRequest(NamedTuple):
    """One measurement of one state; the evaluator carries it out once the state is trained.

    `kind` is `ANSWERS` (answers to the task's prompts), `CODE_LENGTH` (code lengths of the task's
    held-out texts), `QUERIES` (answers that another state is trained on), or `DISTANCES` (distances
    from the state `reference`, on the answers of that state).
    """

    state_id: str
    task: str
    kind: str
    reference: str | None = None

    @property
    def states(self) -> tuple[str, ...]:
        """Ids of the states whose weights are needed."""
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
    """A state trained on the answers of another one, the teacher.

    `teacher` and `student` are positive sizes; `pair` holds their numbers, counted from 1, the
    smaller first.
    """

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
        """`inverse` where the teacher is the earlier state, else `forward` (paper, 3.3.2)."""
        return "inverse" if self.teacher < self.student else "forward"


Point: TypeAlias = Cell | Lesson
"""A point of the grid that is measured."""


@dataclass(frozen=True)
class EngineGroup:
    """States that the same engines can serve: one architecture, tokenizer and precision."""

    name: str
    dtype: str
    """torch dtype of the engines, e.g. "bfloat16"."""
    lora_rank: int | None
    """Largest rank of the states' adapters; None without LoRA."""
    parameters: int | None
    """Parameters of the model; None where they are unknown."""
    trust_remote_code: bool
    shape: ModelShape | None = None
    """Shape of the model; None where it is unknown."""
    pairs: bool = False
    """Whether the engines compare two states at a time, token by token, instead of answering."""


def pairs_of(engine: str) -> str:
    """Return the name of the engine group that compares pairs of the states of group `engine`."""
    return f"{engine}-pairs"


@dataclass(frozen=True)
class Plan:
    """A sweep as it will run: what is trained, measured and recorded."""

    spec: Spec
    starts: Mapping[str, Start]
    """Start states by state id."""
    states: Mapping[str, State]
    """All states by id, parents before children."""
    ladders: tuple[Ladder, ...]
    """Training runs, parents before children."""
    cells: tuple[Cell, ...]
    probes: Mapping[str, Probe]
    """By task."""
    groups: Mapping[str, EngineGroup]
    """By name."""
    example_counts: Mapping[str, ExampleCounts]
    """Examples trained, of "fine-tuning" and of "pre-training"."""
    start_task: Mapping[str, str] = field(default_factory=dict)
    """Task whose tokenizer a start state with a random init uses, by state id."""
    lessons: tuple[Lesson, ...] = ()

    @property
    def points(self) -> tuple[Point, ...]:
        """All grid points that are measured: the cells, then the lessons."""
        return (*self.cells, *self.lessons)

    @cached_property
    def bases(self) -> dict[tuple[str, str, int | None, int], str]:
        """State ids of the baselines by (model, task, pretrain, seed)."""
        return {
            (cell.model, cell.task, cell.pretrain, cell.seed): cell.state_id
            for cell in self.cells
            if not cell.positive
        }

    def requests(self) -> dict[EvaluationRequest, Probe]:
        """Return every evaluation request of the sweep with its probe, in grid order."""
        return {
            request: self.probes[point.task]
            for point in self.points
            for request in self.requests_of(point)
        }

    def requests_of(self, point: Point) -> Iterator[EvaluationRequest]:
        """Yield the evaluation requests that measure a point."""
        if isinstance(point, Lesson):
            yield EvaluationRequest(point.teacher_id, point.task, QUERIES)
            # The student's distance before the lesson, then after it.
            yield EvaluationRequest(point.student_id, point.task, DISTANCES, point.teacher_id)
            yield EvaluationRequest(point.state_id, point.task, DISTANCES, point.teacher_id)
            return
        yield EvaluationRequest(point.state_id, point.task, ANSWERS)
        if self.spec.probes.code_length:
            yield EvaluationRequest(point.state_id, point.task, CODE_LENGTH)
        if self.spec.probes.base_distance and point.positive:
            base = self.bases[point.model, point.task, point.pretrain, point.seed]
            yield EvaluationRequest(point.state_id, point.task, DISTANCES, base)

    def engine_of(self, request: EvaluationRequest) -> str:
        """Return the name of the engine group that serves a request."""
        engine = self.states[request.state_id].engine
        return pairs_of(engine) if request.kind == DISTANCES else engine

    def lineage(self, state_id: str) -> dict[str, Any]:
        """Return start and stages of a state, as the column `states.lineage` records them."""
        stages: list[dict[str, Any]] = []
        state = self.states[state_id]
        while state.stage is not None and state.parent_id is not None:
            stages.append({"state_id": state.state_id, **state.stage.describe(state.examples)})
            state = self.states[state.parent_id]
        start = self.starts[state.state_id]
        origin = {"state_id": state.state_id, "kind": start.kind, **start.identity}
        return {"start": origin, "stages": stages[::-1]}

    def full_ancestor(self, state_id: str) -> str:
        """Return the nearest state, `state_id` included, whose checkpoint holds whole weights.

        The checkpoints of the states between hold LoRA adapters only.
        """
        state = self.states[state_id]
        while state.stage is not None and state.stage.recipe.lora and state.parent_id:
            state = self.states[state.parent_id]
        return state.state_id


@dataclass(frozen=True, slots=True)
class ExampleCounts:
    """Examples trained: each cell by itself, after sharing states, and after fusing ladders."""

    cell_by_cell: int
    shared: int
    fused: int
