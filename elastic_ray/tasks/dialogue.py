"""Tasks of questions and answers, in the dialogue format of safe-rlhf (`PROMPT`).

The loss is on the answer only. No pool has a held-out question. Duplicate dialogues within a pool
are removed, and so are dialogues that the data labels both aligned and contrary. The scorer is
trained on no dialogue of another pool. Texts are compared in lower case, with white space
collapsed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from ..spec import CORPORA
from . import source
from .scripts import approximate_tokens
from .source import Source, Table
from .subsets import selection
from .task import POOLS, Example, TaskError, check_pool, first_prompts, first_texts, normalise
from .tokenizers import byte_pair_tokenizer, check_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VERSION = 1
"""Increased when the format or the split below changes."""
PROMPT = "BEGINNING OF CONVERSATION: USER: {question} ASSISTANT:"
"""Prompt format of PKU-Alignment's safe-rlhf; the answer follows directly."""
MAX_QUESTION_WORDS = 200
"""Longer held-out questions are dropped: prompt and answer must fit an engine's context."""
LONGEST = "max_question_characters"
SETTINGS = (*source.SETTINGS, LONGEST)
"""Settings (`data:`) of the tasks of dialogues: those of the source, and the longest question, of
which longer ones are left out, held out or not."""
VOCABULARY = 4096
"""Default vocabulary size of the tokenizer."""
TOKENIZER_TEXTS = 20_000
"""Maximum number of texts that the tokenizer is trained on."""
TOKENS_PER_WORD = 1.4

Row = tuple[str, str, int | None]
"""A question, its answer, and its label: 1 aligned, 0 contrary, None unlabelled."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A task's data before deduplication: held-out questions, and rows by pool."""

    held_out: list[str]
    pools: Mapping[str, list[Row]]


Read = Callable[[Mapping[str, Sequence[Table]]], Raw]


def prompt_of(question: str) -> str:
    """Return the prompt for a question."""
    return PROMPT.format(question=question)


def question_in(prompt: str) -> str:
    """Return the question of a prompt that `prompt_of` made; raise `ValueError` for another."""
    before, after = PROMPT.split("{question}")
    if not (prompt.startswith(before) and prompt.endswith(after)):
        raise ValueError(f"no prompt of a dialogue: {prompt[:60]!r}")
    return prompt[len(before) : len(prompt) - len(after)]


class Dialogues:
    """A task of dialogues: `read` turns the tables of `source` into questions and rows.

    `version` is increased when `read` changes; `typical_tokens` is the assumed length of an
    example where the data is unreachable. `split` is the size that was chosen, of a data set that
    has several.
    """

    def __init__(
        self,
        name: str,
        version: int,
        source: Source,
        read: Read,
        typical_tokens: float,
        longest: Any = None,
        split: str | None = None,
    ) -> None:
        self.name = name
        self.typical_tokens = typical_tokens
        if longest is not None and (type(longest) is not int or longest < 1):
            raise TaskError(
                f"task {name}: data.max_question_characters: found {longest!r}; must be a whole "
                "number, at least 1"
            )
        self._longest: int | None = longest
        self._version, self._source, self._read = version, source, read
        self._size = {"split": split} if split else {}

    @cached_property
    def identity(self) -> dict[str, Any]:
        versions = {"version": self._version, "dialogue": VERSION, "prompt": PROMPT}
        longest = {"max_question_characters": self._longest} if self._longest else {}
        own = {**versions, **longest, **self._size}
        return {"task": self.name, **own, **self._source.identity()}

    @property
    def _data(self) -> _SplitData:
        return _split(self._source, self._read, self._longest, json.dumps(self.identity))

    @property
    def removed(self) -> dict[str, int]:
        """Rows removed from each pool: duplicates, held-out questions, empty answers."""
        return dict(self._data.removed)

    @cached_property
    def sizes(self) -> dict[str, int]:
        sizes = {pool: len(examples) for pool, examples in self._data.pools.items()}
        return {**sizes, "prompts": len(self._data.prompts), "texts": 0}

    @cached_property
    def mean_tokens(self) -> float:
        sample = self.pool("positive")[:1000]
        texts = (self.scored_text(e.prompt, e.response) for e in sample)
        tokens = sum(approximate_tokens(text, TOKENS_PER_WORD) for text in texts)
        return tokens / max(len(sample), 1)

    def pool(self, name: str) -> Sequence[Example]:
        check_pool(self.name, name)
        return self._data.pools[name]

    def prompts(self, count: int) -> list[str]:
        return first_prompts(self._data.prompts, count, self.name)

    def texts(self, corpus: str, count: int) -> list[Example]:
        """Return no texts, or raise `TaskError`: there is no held-out text to encode.

        The answers to held-out questions are not kept, and there is no pre-training text.
        """
        return first_texts({corpus: () for corpus in CORPORA}, corpus, count, self.name)

    def scored_text(self, prompt: str, response: str) -> str:
        return f"{prompt}{response.strip()}"

    def tokenizer(self, vocab_size: int | None) -> PreTrainedTokenizerFast:
        check_vocabulary(self.name, vocab_size)
        pool = [*self.pool("positive"), *self.pool("negative")]
        chosen = selection(len(pool), min(TOKENIZER_TEXTS, len(pool)), seed=0)
        texts = (self.scored_text(pool[i].prompt, pool[i].response) for i in chosen)
        return byte_pair_tokenizer(texts, vocab_size or VOCABULARY)

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        check_vocabulary(self.name, vocab_size)
        return {
            "algorithm": "byte-level bpe",
            "vocab_size": vocab_size or VOCABULARY,
            "texts": self.identity,
        }

    def check_leakage(self) -> None:
        held_out = {normalise(prompt) for prompt in self._data.prompts}
        for pool, examples in self._data.pools.items():
            for i, example in enumerate(examples):
                if normalise(example.prompt) in held_out:
                    raise TaskError(
                        f"task {self.name}: {pool} example {i} asks a held-out question: "
                        f"{example.prompt[:90]!r}"
                    )


@dataclass(frozen=True, slots=True)
class _SplitData:
    """The data after splitting and deduplication; `removed` counts rows by pool."""

    prompts: list[str]
    pools: dict[str, list[Example]]
    removed: dict[str, int]


@lru_cache(maxsize=4)
def _split(origin: Source, read: Read, longest: int | None, identity: str) -> _SplitData:
    """Read and split the data, once per process.

    `identity` makes the cache notice changed files.
    """
    return _deduplicate(read(origin.tables()), longest)


def _deduplicate(raw: Raw, longest: int | None = None) -> _SplitData:
    """Return prompts and pools without duplicates, contradictions and held-out questions."""
    held_out: dict[str, str] = {}
    for question in raw.held_out:
        if len(question.split()) <= MAX_QUESTION_WORDS and not _is_long(question, longest):
            held_out.setdefault(normalise(question), question)
    contradictory = _contradictory(row for rows in raw.pools.values() for row in rows)
    trained: set[tuple[str, str]] = set()
    pools: dict[str, list[Example]] = {pool: [] for pool in POOLS}
    for pool in POOLS:
        # The scorer is trained on no dialogue that the models are trained on.
        seen = set(trained) if pool == "scorer" else set()
        for question, answer, label in raw.pools.get(pool, ()):
            key = normalise(question), normalise(answer)
            if _is_long(question, longest):
                continue
            if answer and key[0] not in held_out and key not in contradictory and key not in seen:
                seen.add(key)
                pools[pool].append(Example(prompt_of(question), answer, label))
        trained |= seen
    removed = {pool: len(raw.pools.get(pool, ())) - len(pools[pool]) for pool in POOLS}
    return _SplitData([prompt_of(question) for question in held_out.values()], pools, removed)


def _is_long(question: str, longest: int | None) -> bool:
    return longest is not None and len(question) > longest


def _contradictory(rows: Iterable[Row]) -> set[tuple[str, str]]:
    """Return the (question, answer) pairs that have more than one label."""
    labels: dict[tuple[str, str], int | None] = {}
    found = set()
    for question, answer, label in rows:
        key = normalise(question), normalise(answer)
        if labels.setdefault(key, label) != label:
            found.add(key)
    return found
