"""What planning needs to know of a task, and whether it holds as much as a spec asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..spec import Spec, SpecError

SCORER_TEXTS = 20
"""The fewest labelled texts that a task's own scorer is trained and judged on."""


class TaskInfo(Protocol):
    """What planning needs to know of a task; `tasks.Task` has it."""

    identity: dict[str, Any]
    sizes: dict[str, int]
    mean_tokens: float

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]: ...


def check_sizes(spec: Spec, tasks: Mapping[str, TaskInfo]) -> None:
    problems = []
    for i, task in enumerate(spec.task):
        facts = tasks[task.name]
        own = "positive" if task.positive is None else f"task.{i}.positive"
        sizes = spec.positive_sizes(task)
        wanted = [(own, "positive", sizes), ("negative", "negative", spec.negative)]
        for k, model in enumerate(spec.models):
            wanted.append((f"models.{k}.pretrain", "pretrain", model.pretrain))
        for where, pool, sizes in wanted:
            held = facts.sizes.get(pool, 0)
            if sizes and max(sizes) > held:
                problems.append(
                    f"{where}: found {max(sizes):,} examples; task {task.name} holds {held:,} "
                    f"{pool} examples"
                )
        if (first := task.instruct) is not None:
            held = tasks[first.task].sizes.get("positive", 0)
            if first.examples > held:
                problems.append(
                    f"task.{i}.instruct.examples: found {first.examples:,}; task {first.task} "
                    f"holds {held:,} positive examples"
                )
        backend, texts = task.scorer, facts.sizes.get("scorer", 0)
        if backend and not (backend.hub or backend.path) and texts < SCORER_TEXTS:
            problems.append(
                f"task.{i}.scorer: task {task.name} holds {texts} labelled texts to train one on; "
                f"at least {SCORER_TEXTS}, or give its hub and revision, or its path, or none"
            )
        most, answered = facts.sizes.get("prompts"), spec.generation.prompts
        learnt = spec.lessons.queries if spec.lessons else 0
        if most is not None and answered > most:
            problems.append(
                f"generation.prompts: found {answered:,}; task {task.name} holds "
                f"{most:,} held-out prompts"
            )
        elif most is not None and answered + learnt > most:
            problems.append(
                f"lessons.queries: found {learnt:,}; beside the {answered:,} of "
                f"generation.prompts task {task.name} holds {most - answered:,} held-out prompts"
            )
        most, measured = facts.sizes.get("texts"), spec.probes.code_length
        if most is not None and measured and measured.texts > most:
            problems.append(
                f"probes.code_length.texts: found {measured.texts:,}; task {task.name} holds "
                f"{most:,} held-out texts of each distribution"
            )
    if problems:
        raise SpecError("\n".join(dict.fromkeys(problems)))
