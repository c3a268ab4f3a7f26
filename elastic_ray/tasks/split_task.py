"""What tasks share whose data is read once and split into held-out prompts and pools."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..spec import CORPORA
from .scripts import approximate_tokens
from .task import Example, check_pool, first_prompts, first_texts
from .tokenizers import check_vocabulary

VOCABULARY = 4096
"""Default vocabulary size of the tokenizer."""
TOKENIZER_TEXTS = 20_000
"""Maximum number of texts that the tokenizer is trained on."""
TOKENS_PER_WORD = 1.4


@dataclass(frozen=True, slots=True)
class SplitData:
    """The data after splitting and deduplication; `removed` counts rows by pool."""

    prompts: list[str]
    pools: dict[str, list[Example]]
    removed: dict[str, int]


class SplitTask(abc.ABC):
    """A task with held-out prompts, but no held-out texts. `_data` is read when it is needed."""

    name: str

    @property
    @abc.abstractmethod
    def identity(self) -> dict[str, Any]: ...

    @property
    @abc.abstractmethod
    def _data(self) -> SplitData: ...

    @abc.abstractmethod
    def scored_text(self, prompt: str, response: str) -> str: ...

    @property
    def removed(self) -> dict[str, int]:
        """Rows removed from each pool: duplicates, contradictions, what is held out or empty."""
        return dict(self._data.removed)

    @cached_property
    def sizes(self) -> dict[str, int]:
        sizes = {pool: len(examples) for pool, examples in self._data.pools.items()}
        return {**sizes, "prompts": len(self._data.prompts), "texts": 0}

    @cached_property
    def mean_tokens(self) -> float:
        sample = self.pool("positive")[:1000]
        texts = (self.scored_text(each.prompt, each.response) for each in sample)
        tokens = sum(approximate_tokens(text, TOKENS_PER_WORD) for text in texts)
        return tokens / max(len(sample), 1)

    def pool(self, name: str) -> Sequence[Example]:
        check_pool(self.name, name)
        return self._data.pools[name]

    def prompts(self, count: int) -> list[str]:
        return first_prompts(self._data.prompts, count, self.name)

    def texts(self, corpus: str, count: int) -> list[Example]:
        """Return no texts, or raise `TaskError`: only prompts are held out."""
        return first_texts({corpus: () for corpus in CORPORA}, corpus, count, self.name)

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        check_vocabulary(self.name, vocab_size)
        return {
            "algorithm": "byte-level bpe",
            "vocab_size": vocab_size or VOCABULARY,
            "texts": self.identity,
        }
