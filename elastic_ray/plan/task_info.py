"""What planning needs to know of a task, and the check that its data is large enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..spec import Spec, SpecError

SCORER_TEXTS = 20
"""Fewest labelled texts to train and validate a task's own scorer on."""


class TaskInfo(Protocol):
    """What planning needs to know of a task; every `tasks.task.Task` provides it."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the texts are, as canonical-JSON values."""
        ...

    @property
    def sizes(self) -> dict[str, int]:
        """Examples by pool; held-out `prompts`; held-out `texts` per distribution."""
        ...

    @property
    def mean_tokens(self) -> float:
        """Tokens per example."""
        ...

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        """Return what identifies the tokenizer of models trained from scratch."""
        ...


def check_sizes(spec: Spec, tasks: Mapping[str, TaskInfo]) -> None:
    """Raise `SpecError`, with the fields, where the spec needs more data than a task has."""
    problems = []
    for i, task in enumerate(spec.task):
        info = tasks[task.name]
        own = "positive" if task.positive is None else f"task.{i}.positive"
        sizes = spec.positive_sizes(task)
        needed = [(own, "positive", sizes), ("negative", "negative", spec.negative)]
        for k, model in enumerate(spec.models):
            needed.append((f"models.{k}.pretrain", "pretrain", model.pretrain))
        for field, pool, sizes in needed:
            held = info.sizes.get(pool, 0)
            if sizes and max(sizes) > held:
                problems.append(
                    f"{field}: found {max(sizes):,} examples; task {task.name} holds {held:,} "
                    f"{pool} examples"
                )
        if (first := task.instruct) is not None:
            held = tasks[first.task].sizes.get("positive", 0)
            if first.examples > held:
                problems.append(
                    f"task.{i}.instruct.examples: found {first.examples:,}; task {first.task} "
                    f"holds {held:,} positive examples"
                )
        scorer, texts = task.scorer, info.sizes.get("scorer", 0)
        if scorer and not (scorer.hub or scorer.path) and texts < SCORER_TEXTS:
            problems.append(
                f"task.{i}.scorer: task {task.name} holds {texts} labelled texts to train a scorer "
                f"on; at least {SCORER_TEXTS} are needed, or give its hub and revision, or its "
                "path, or none"
            )
        most, prompts = info.sizes.get("prompts"), spec.generation.prompts
        queries = spec.lessons.queries if spec.lessons else 0
        if most is not None and prompts > most:
            problems.append(
                f"generation.prompts: found {prompts:,}; task {task.name} holds "
                f"{most:,} held-out prompts"
            )
        elif most is not None and prompts + queries > most:
            problems.append(
                f"lessons.queries: found {queries:,}; task {task.name} holds {most - prompts:,} "
                f"held-out prompts besides the {prompts:,} of generation.prompts"
            )
        most, code_length = info.sizes.get("texts"), spec.probes.code_length
        if most is not None and code_length and code_length.texts > most:
            problems.append(
                f"probes.code_length.texts: found {code_length.texts:,}; task {task.name} holds "
                f"{most:,} held-out texts of each distribution"
            )
    if problems:
        raise SpecError("\n".join(dict.fromkeys(problems)))
