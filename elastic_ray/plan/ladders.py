"""Fuses states into ladders, training runs that pass through several of them, and counts examples.

Fusing is exact (docs/concepts.md#rule-3): a state on a ladder equals the state trained separately.
Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..spec import Spec
from .graph import ExampleCounts, Ladder, Rung, State


def fuse_ladders(states: Mapping[str, State], task_of: Mapping[str, str]) -> Iterator[Ladder]:
    """Yield the fewest runs that pass through every state, each exactly as if trained separately.

    Sizes of one stage and parent share a run where all but the largest are whole global batches.
    Any other size has a run of its own.
    """
    siblings: dict[tuple[str, str], list[State]] = defaultdict(list)
    for state in states.values():
        if state.stage is not None and state.parent_id is not None:
            siblings[state.parent_id, state.stage.digest].append(state)
    for (parent, _), group in siblings.items():
        group.sort(key=lambda state: state.examples)
        stage = group[0].stage
        assert stage is not None
        batch = stage.recipe.global_batch
        if stage.fuses:
            fused = [s for s in group[:-1] if s.examples % batch == 0] + group[-1:]
            separate = [s for s in group[:-1] if s.examples % batch]
        else:
            fused, separate = [], group
        for run in [fused, *([state] for state in separate)]:
            if run:
                rungs = tuple(Rung(s.state_id, s.examples) for s in run)
                yield Ladder(parent, stage, rungs, task_of[run[0].state_id], run[0].engine)


def count_examples(
    spec: Spec, states: Mapping[str, State], ladders: Sequence[Ladder]
) -> dict[str, ExampleCounts]:
    """Return the examples trained in fine-tuning and in pre-training, each epoch counted once."""
    starts = sum(max(1, len(model.pretrain)) for model in spec.models)
    pretrained = sum(sum(model.pretrain) for model in spec.models)
    curve = spec.curve_sizes()
    fine_tuning = pre_training = 0
    for task in spec.task:
        sizes = spec.positive_sizes(task)
        cells = 1 + len(sizes) * len(curve)
        examples = sum(sizes) * len(curve) + sum(curve) * len(sizes)
        for numbers in spec.lessons.pairs if spec.lessons else ():
            # Each path trains the teacher, the student, and the student on the lesson.
            cells += 2
            lesson = spec.lessons.queries * spec.generation.samples if spec.lessons else 0
            examples += 2 * (sum(sizes[number - 1] for number in numbers) + lesson)
        examples += cells * (task.instruct.examples if task.instruct else 0)
        fine_tuning += starts * len(spec.seeds) * examples
        pre_training += len(spec.seeds) * cells * pretrained

    def count(trained: Iterable[State | Ladder], pretrain: bool) -> int:
        return sum(
            each.examples
            for each in trained
            if each.stage is not None and (each.stage.kind == "pretrain") == pretrain
        )

    every = list(states.values())
    return {
        "fine-tuning": ExampleCounts(fine_tuning, count(every, False), count(ladders, False)),
        "pre-training": ExampleCounts(pre_training, count(every, True), count(ladders, True)),
    }
