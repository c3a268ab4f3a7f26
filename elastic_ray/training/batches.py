"""The order of a stage's examples, and how a global batch is dealt to workers.

Global batch k is always examples k x B to (k + 1) x B of the stage's order, whatever the number of
workers and the micro batch, so what is learnt does not depend on them. Within a global batch,
examples are sorted by length and dealt in turn, so that micro batches need little padding; every
worker gets the same number of micro batches, filled up with rows that count nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..spec import Recipe
from ..tasks.subsets import selection
from ..tasks.task import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""A target that counts nothing in the loss (torch's `ignore_index`)."""

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """One example as tokens, with its targets (`IGNORED` on the prompt); both of one length."""

    ids: list[int]
    targets: list[int]


@dataclass(frozen=True)
class MicroBatch:
    """Arrays of shape (rows, longest): token ids, attention mask, targets."""

    ids: Int
    mask: Int
    targets: Int


def order(size: int, examples: int, recipe: Recipe, seed: int) -> Iterator[Int]:
    """The pool's indices, global batch after global batch, over all epochs."""
    for epoch in range(recipe.epochs):
        chosen = selection(size, examples, seed, epoch)
        for start in range(0, examples, recipe.global_batch):
            yield chosen[start : start + recipe.global_batch]


def steps(examples: int, recipe: Recipe) -> int:
    """Optimiser steps of a stage of that many examples."""
    return recipe.epochs * ceil(examples / recipe.global_batch)


def learning_rate(step: int, total: int, recipe: Recipe) -> float:
    """The rate of step 0, 1, ... of `total`: linear warm-up, then constant or a half cosine."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "constant":
        return recipe.learning_rate
    passed = (step - recipe.warmup_steps) / max(1, total - recipe.warmup_steps)
    return float(recipe.learning_rate * 0.5 * (1 + np.cos(np.pi * passed)))


def tokenize(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Tokens]:
    """Prompt, response and end token of each example; the loss is on response and end token.

    There is no end token where the text does not end. Longer ones are cut at `max_length`. The
    tokenizer adds its own first token, if it has one.
    """
    end = tokenizer.eos_token_id
    found = []
    for example in examples:
        head = tokenizer(example.prompt).input_ids if example.prompt else None
        if head is None:
            ids = tokenizer(example.response).input_ids
            targets = list(ids)
            if ids and ids[0] == tokenizer.bos_token_id:
                targets[0] = IGNORED
        else:
            tail = tokenizer(example.response, add_special_tokens=False).input_ids
            ids, targets = [*head, *tail], [IGNORED] * len(head) + list(tail)
        if example.ends and end is not None and (not ids or ids[-1] != end):
            ids, targets = [*ids, end], [*targets, end]
        found.append(Tokens(list(ids[:max_length]), list(targets[:max_length])))
    return found


def deal(
    batch: Sequence[Tokens], rank: int, workers: int, global_batch: int, micro_batch: int, pad: int
) -> list[MicroBatch]:
    """This rank's micro batches of a global batch, always `micro_batches(...)` of them."""
    by_length = sorted(range(len(batch)), key=lambda i: (-len(batch[i].ids), i))
    mine = by_length[rank::workers]
    count, rows = micro_batches(global_batch, workers, micro_batch)
    dealt = []
    for k in range(count):
        part = [batch[i] for i in mine[k * rows : (k + 1) * rows]]
        # A rank with nothing left still takes part in the collective steps: one row, no targets.
        part = part or [Tokens(batch[0].ids[:2], [IGNORED] * len(batch[0].ids[:2]))]
        dealt.append(_pad(part, pad))
    return dealt


def micro_batches(global_batch: int, workers: int, micro_batch: int) -> tuple[int, int]:
    """(micro batches per worker and step, rows in each at most)."""
    per_worker = ceil(global_batch / workers)
    count = ceil(per_worker / micro_batch)
    return count, ceil(per_worker / count)


def counted(batch: Sequence[Tokens]) -> int:
    """Targets of a global batch that the loss counts: the first token of a text is given."""
    return sum(1 for tokens in batch for target in tokens.targets[1:] if target != IGNORED)


def _pad(rows: Sequence[Tokens], pad: int) -> MicroBatch:
    longest = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    targets = np.full((len(rows), longest), IGNORED, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        mask[i, : len(row.ids)] = 1
        targets[i, : len(row.ids)] = row.targets
    return MicroBatch(ids, mask, targets)
