"""The bundled task: film reviews from a seeded grammar, for sweeps with no network.

The pre-training pool has both sentiments in equal parts, so a base model's answers are mixed;
`positive` and `negative` have one sentiment each. Every text is determined by (version, seed, pool,
index) through hashing. A text that equals an earlier one of its pool, or begins with a held-out
one, is drawn again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from .grammar import VERSION, review, vocabulary
from .task import (
    Example,
    HeldOut,
    TaskError,
    check_leakage,
    check_pool,
    check_settings,
    cut_prompts,
    first_prompts,
    first_texts,
    join_answer,
    split_corpora,
)
from .tokenizers import SPECIAL, word_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SIZES = {"pretrain": 60_000, "positive": 12_000, "negative": 12_000, "scorer": 4_000}
"""Examples by pool. Selections depend on the pool's size, so increase `VERSION` with a change."""
HELD_OUT = 3_000
"""Number of held-out texts."""


class Reviews:
    """The `reviews` task. Its only setting (`data:`) is `seed`, a whole number; default 0."""

    name = "reviews"
    mean_tokens = typical_tokens = 40.3

    def __init__(self, /, **settings: Any) -> None:
        check_settings(self.name, settings, ("seed",))
        seed = settings.get("seed", 0)
        if type(seed) is not int or seed < 0:
            raise TaskError(
                f"task reviews: data.seed: found {seed!r}; must be a whole number, at least 0"
            )
        self._seed = seed
        self.identity: dict[str, Any] = {"task": self.name, "version": VERSION, "seed": seed}
        least = min(map(len, self._texts.values()))
        self.sizes = {**SIZES, "prompts": len(self._prompts), "texts": least}

    @cached_property
    def _prompts(self) -> list[str]:
        return cut_prompts(self.name, self._held_out, self._seed)

    @cached_property
    def _texts(self) -> dict[str, list[Example]]:
        labelled = ((text, int(_good(i))) for i, text in enumerate(self._held_out))
        return split_corpora(self.name, labelled)

    @property
    def _held_out(self) -> tuple[str, ...]:
        return _held_out(self._seed)

    def pool(self, name: str) -> Sequence[Example]:
        return _pool(self._seed, name)

    def prompts(self, count: int) -> list[str]:
        return first_prompts(self._prompts, count, self.name)

    def texts(self, corpus: str, count: int) -> list[Example]:
        return first_texts(self._texts, corpus, count, self.name)

    def scored_text(self, prompt: str, response: str) -> str:
        return join_answer(prompt, response)

    def tokenizer(self, vocab_size: int | None) -> PreTrainedTokenizerFast:
        self._check_vocabulary(vocab_size)
        return word_tokenizer(vocabulary())

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        self._check_vocabulary(vocab_size)
        known = vocabulary()
        return {
            "algorithm": "words",
            "version": VERSION,
            "vocab_size": len(known) + len(SPECIAL),
            "words": hashlib.sha256(" ".join(known).encode()).hexdigest(),
        }

    def check_leakage(self) -> None:
        check_leakage(self.name, self._held_out, {pool: self.pool(pool) for pool in SIZES})

    def _check_vocabulary(self, vocab_size: int | None) -> None:
        if vocab_size is not None:
            raise TaskError(
                f"task reviews: init.vocabulary: found {vocab_size}; the task's words are fixed "
                "(leave it out)"
            )


@lru_cache(maxsize=4)
def _held_out(seed: int) -> tuple[str, ...]:
    return tuple(review(_good(i), seed, "held out", i, 0) for i in range(HELD_OUT))


def _good(i: int) -> bool:
    """Return whether the held-out review at index `i` is positive."""
    return i % 2 == 0


@lru_cache(maxsize=16)
def _pool(seed: int, name: str) -> tuple[Example, ...]:
    """Return the examples of a pool; texts that are held out or duplicates are drawn again."""
    check_pool("reviews", name)
    held_out = HeldOut(_held_out(seed))
    seen: set[str] = set()
    if name == "scorer":  # it scores models trained on the other pools, so its texts differ
        seen |= {e.response for pool in SIZES if pool != name for e in _pool(seed, pool)}
    examples = []
    for i in range(SIZES[name]):
        good = name == "positive" or (name != "negative" and i % 2 == 0)
        attempt = 0
        while (text := review(good, seed, name, i, attempt)) in seen or held_out.matches(text):
            attempt += 1
        seen.add(text)
        examples.append(Example("", text, None if name == "pretrain" else int(good)))
    return tuple(examples)
