"""Tells how many optimiser steps each size of a sweep takes, for `--dry-run`.

The last batch of a stage may be smaller than the global batch; it is a step like any other. Other
programs drop it, and then a size below the global batch is no training at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..spec import Spec
from ..training.batches import step_count


def step_lines(spec: Spec) -> Iterator[str]:
    """Yield a line for each list of sizes, and a warning where a size is below one whole step."""
    for name, kind, listed in size_lists(spec):
        sizes = [size for size in listed if size]
        if not sizes:
            continue
        recipe = spec.training.recipe(kind)
        batch = recipe.global_batch
        each = ", ".join(
            f"{size:,}: {step_count(size, recipe):,}{'*' if size % batch else ''}" for size in sizes
        )
        star = " (* the last batch is smaller)" if any(size % batch for size in sizes) else ""
        yield f"optimiser steps, {name}, global batch {batch:,}: {each}{star}"
        below = [f"{size:,}" for size in sizes if size < batch]
        if below:
            yield (
                f"warning: {name} {', '.join(below)}: below one step of {batch:,} examples; "
                "trained as a step of a smaller batch, where a loop that drops partial batches "
                f"would not train; training.{kind}.global_batch of {min(sizes):,} or less makes "
                "whole steps"
            )


def size_lists(spec: Spec) -> Iterator[tuple[str, str, Sequence[int]]]:
    """Yield each list of sizes of a sweep: its name, the kind of its stage, and the sizes."""
    for model in spec.models:
        yield f"{model.name} pretrain", "pretrain", model.pretrain
    yield "positive", "positive", spec.positive
    yield "negative", "negative", spec.negative
    for task in spec.task:
        yield f"{task.name} positive", "positive", task.positive or ()
