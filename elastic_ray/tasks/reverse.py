"""A task in the other direction: the contrary behaviour is taught first, then the aligned one.

The pools `positive` and `negative` change places, and so do the labels: what counts as aligned, in
scores, surfaces and retention, is the behaviour that is taught first. Prompts, pre-training texts
and tokenizer are those of the task, so base models and their answers are shared by both directions
(`plan.identity.undirected`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .task import Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SETTING = "reverse"
"""The setting (`data:`) of every task that turns it round."""
_OTHER: Mapping[str, str] = {"positive": "negative", "negative": "positive"}


@dataclass(frozen=True)
class Reversed:
    """A task whose positive and negative pools, labels and held-out texts are exchanged."""

    task: Task

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def identity(self) -> dict[str, Any]:
        return {**self.task.identity, SETTING: True}

    @property
    def sizes(self) -> dict[str, int]:
        sizes = self.task.sizes
        return {pool: sizes[_OTHER.get(pool, pool)] for pool in sizes}

    @property
    def mean_tokens(self) -> float:
        return self.task.mean_tokens

    @property
    def typical_tokens(self) -> float:
        return self.task.typical_tokens

    @cached_property
    def _pools(self) -> dict[str, Sequence[Example]]:
        return {}

    def pool(self, name: str) -> Sequence[Example]:
        if name not in self._pools:
            examples = self.task.pool(_OTHER.get(name, name))
            self._pools[name] = tuple(map(_relabelled, examples))
        return self._pools[name]

    def prompts(self, count: int) -> list[str]:
        return self.task.prompts(count)

    def texts(self, corpus: str, count: int) -> list[Example]:
        return [_relabelled(each) for each in self.task.texts(_OTHER.get(corpus, corpus), count)]

    def scored_text(self, prompt: str, response: str) -> str:
        return self.task.scored_text(prompt, response)

    def tokenizer(self, vocab_size: int | None) -> PreTrainedTokenizerFast:
        return self.task.tokenizer(vocab_size)

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        return self.task.tokenizer_identity(vocab_size)

    def check_leakage(self) -> None:
        self.task.check_leakage()


def _relabelled(example: Example) -> Example:
    return example if example.label is None else replace(example, label=1 - example.label)
