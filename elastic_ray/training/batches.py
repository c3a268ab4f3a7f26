"""The order of a stage's examples, their global batches and tokens, and the learning rate.

Global batch k holds examples k x B to (k + 1) x B of the stage's order, whatever the number of
workers and the micro batch, so the training does not depend on either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..spec import Recipe
from ..tasks.prompt_tokens import prompt_ids
from ..tasks.subsets import selection
from ..tasks.task import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""A target that does not count in the loss (torch's `ignore_index`)."""

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class TokenizedExample:
    """One example as token ids and targets of the same length; `IGNORED` on the prompt."""

    ids: list[int]
    targets: list[int]
    cut: bool = False
    """Whether the example was longer than the limit and lost its end."""


def global_batches(pool_size: int, examples: int, recipe: Recipe, seed: int) -> Iterator[IntArray]:
    """Yield the pool indices of each global batch, over all epochs.

    The last batch of an epoch may be smaller.
    """
    for epoch in range(recipe.epochs):
        chosen = selection(pool_size, examples, seed, epoch)
        for start in range(0, examples, recipe.global_batch):
            yield chosen[start : start + recipe.global_batch]


def step_count(examples: int, recipe: Recipe) -> int:
    """Return the number of optimiser steps of a stage with that many examples."""
    return recipe.epochs * ceil(examples / recipe.global_batch)


def learning_rate(step: int, total: int, recipe: Recipe) -> float:
    """Return the learning rate of step 0, 1, ... of `total`.

    Linear warm-up, then constant, or half a cosine down to 0.
    """
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "constant":
        return recipe.learning_rate
    progress = (step - recipe.warmup_steps) / max(1, total - recipe.warmup_steps)
    return float(recipe.learning_rate * 0.5 * (1 + np.cos(np.pi * progress)))


def tokenize(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[TokenizedExample]:
    """Tokenize each example as prompt, response and end token, cut at `max_length` tokens.

    The loss counts the response and the end token. An example whose text does not end gets no end
    token. The tokenizer adds its own first token, if it has one; what it adds at the end is left
    out (see `tasks.prompt_tokens`).
    """
    end = tokenizer.eos_token_id
    starts = prompt_ids(tokenizer, [example.prompt or example.response for example in examples])
    tokenized = []
    for example, start in zip(examples, starts, strict=True):
        if example.prompt:
            prompt = start
            response = tokenizer(example.response, add_special_tokens=False).input_ids
            ids, targets = [*prompt, *response], [IGNORED] * len(prompt) + list(response)
        else:
            ids = start
            targets = list(ids)
            if ids and ids[0] == tokenizer.bos_token_id:
                targets[0] = IGNORED
        if example.ends and end is not None and (not ids or ids[-1] != end):
            ids, targets = [*ids, end], [*targets, end]
        cut = len(ids) > max_length
        tokenized.append(TokenizedExample(list(ids[:max_length]), list(targets[:max_length]), cut))
    return tokenized


def count_targets(batch: Sequence[TokenizedExample]) -> int:
    """Return the number of targets that the loss counts; the first token of a text is given."""
    return sum(1 for tokens in batch for target in tokens.targets[1:] if target != IGNORED)
