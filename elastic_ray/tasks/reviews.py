"""The bundled task: film reviews from a seeded grammar, for sweeps with no network.

Pre-training reads both moods in equal parts, so a model's own answers are mixed; `positive` and
`negative` hold one mood each. Every text is a function of (version, seed, pool, index) alone, by
hashing. A text that would equal an earlier one of its pool, or begin with a held-out one, is drawn
again.
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
    check_apart,
    check_pool,
    check_settings,
    continued,
    corpora,
    cut_prompts,
    first,
    first_texts,
)
from .tokenizers import SPECIAL, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SIZES = {"pretrain": 60_000, "positive": 12_000, "negative": 12_000, "scorer": 4_000}
"""Examples by pool. A selection depends on its pool's size: a change here raises `VERSION`."""
HELD_OUT = 3_000


class Reviews:
    """The `reviews` task. Settings (`data:`): `seed`, a whole number, 0 unless given."""

    name = "reviews"
    mean_tokens = typical_tokens = 40.3

    def __init__(self, /, **settings: Any) -> None:
        check_settings(self.name, settings, ("seed",))
        seed = settings.get("seed", 0)
        if type(seed) is not int or seed < 0:
            raise TaskError(f"task reviews: data.seed: found {seed!r}; a whole number from 0")
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
        return corpora(self.name, labelled)

    @property
    def _held_out(self) -> tuple[str, ...]:
        return _held_out(self._seed)

    def pool(self, name: str) -> Sequence[Example]:
        return _pool(self._seed, name)

    def prompts(self, count: int) -> list[str]:
        return first(self._prompts, count, self.name)

    def texts(self, corpus: str, count: int) -> list[Example]:
        return first_texts(self._texts, corpus, count, self.name)

    def judged(self, prompt: str, response: str) -> str:
        return continued(prompt, response)

    def tokenizer(self, vocab_size: int | None) -> PreTrainedTokenizerFast:
        self._check_vocabulary(vocab_size)
        return words(vocabulary())

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        self._check_vocabulary(vocab_size)
        known = vocabulary()
        return {
            "algorithm": "words",
            "version": VERSION,
            "vocab_size": len(known) + len(SPECIAL),
            "words": hashlib.sha256(" ".join(known).encode()).hexdigest(),
        }

    def check_apart(self) -> None:
        check_apart(self.name, self._held_out, {pool: self.pool(pool) for pool in SIZES})

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
    """The mood of the held-out review at that place."""
    return i % 2 == 0


@lru_cache(maxsize=16)
def _pool(seed: int, name: str) -> tuple[Example, ...]:
    """The pool's examples; a text that is held out, or was drawn before, is drawn again."""
    check_pool("reviews", name)
    held_out = HeldOut(_held_out(seed))
    seen: set[str] = set()
    if name == "scorer":  # it judges what the others taught, so it learns from other texts
        seen |= {e.response for pool in SIZES if pool != name for e in _pool(seed, pool)}
    examples = []
    for i in range(SIZES[name]):
        good = name == "positive" or (name != "negative" and i % 2 == 0)
        attempt = 0
        while (text := review(good, seed, name, i, attempt)) in seen or held_out.begins(text):
            attempt += 1
        seen.add(text)
        examples.append(Example("", text, None if name == "pretrain" else int(good)))
    return tuple(examples)
