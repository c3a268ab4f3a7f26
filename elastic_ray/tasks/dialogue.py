"""Tasks of questions and answers, in the dialogue form of safe-rlhf (`PROMPT`).

The loss is on the answer only. A question that is held out is asked in no pool; an answer to the
same question counts once per pool; one that the data calls both aligned and contrary counts
nowhere; the scorer learns from no dialogue that another pool holds. All are compared in lower case
and without runs of white space.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from ..spec import CORPORA
from .source import Source, Table
from .subsets import selection
from .task import POOLS, Example, TaskError, check_pool, first_prompts, first_texts, normalise
from .tokenizers import byte_pair_tokenizer, check_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VERSION = 1
"""Raised when the form or the parting below changes."""
PROMPT = "BEGINNING OF CONVERSATION: USER: {question} ASSISTANT:"
"""What a model is asked (PKU-Alignment's safe-rlhf); the answer follows with nothing between."""
MAX_QUESTION_WORDS = 200
"""Words; a longer one is not asked: prompt and answer have to fit an engine's context."""
VOCABULARY = 4096
TOKENIZER_TEXTS = 20_000
TOKENS_PER_WORD = 1.4

Row = tuple[str, str, int | None]
"""A question, its answer, and its label: 1 aligned, 0 contrary, None neither."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A task's data before anything is left out: held-out questions, and rows by pool."""

    held_out: list[str]
    pools: Mapping[str, list[Row]]


Read = Callable[[Mapping[str, Sequence[Table]]], Raw]


def prompt_of(question: str) -> str:
    """The prompt that asks a question."""
    return PROMPT.format(question=question)


def text_of(task: str, table: Table, row: int, column: str, value: Any) -> str:
    """A text of the data without white space around it, which may be empty."""
    if not isinstance(value, str):
        raise TaskError(
            f"task {task}: {table.where}: row {row}: {column}: found {value!r}; a text is needed"
        )
    return value.strip()


def question_of(task: str, table: Table, row: int, column: str, value: Any) -> str:
    """A question of the data; `TaskError` where it is empty."""
    if not (text := text_of(task, table, row, column, value)):
        raise TaskError(
            f"task {task}: {table.where}: row {row}: {column}: found {value!r}; a text is needed"
        )
    return text


class Dialogues:
    """A task whose `source` is parted by `read`; `version` is raised when that changes."""

    def __init__(
        self, name: str, version: int, source: Source, read: Read, typical_tokens: float
    ) -> None:
        self.name = name
        self.typical_tokens = typical_tokens
        self._version, self._source, self._read = version, source, read

    @cached_property
    def identity(self) -> dict[str, Any]:
        versions = {"version": self._version, "dialogue": VERSION, "prompt": PROMPT}
        return {"task": self.name, **versions, **self._source.identity()}

    @property
    def _parted(self) -> _Parted:
        return _part(self._source, self._read, json.dumps(self.identity))

    @property
    def removed(self) -> dict[str, int]:
        """How many rows were left out of each pool: duplicates, held-out questions, no answer."""
        return dict(self._parted.removed)

    @cached_property
    def sizes(self) -> dict[str, int]:
        sizes = {pool: len(examples) for pool, examples in self._parted.pools.items()}
        return {**sizes, "prompts": len(self._parted.prompts), "texts": 0}

    @cached_property
    def mean_tokens(self) -> float:
        sample = self.pool("positive")[:1000]
        words = sum(len(self.scored_text(e.prompt, e.response).split()) for e in sample)
        return TOKENS_PER_WORD * words / max(len(sample), 1)

    def pool(self, name: str) -> Sequence[Example]:
        check_pool(self.name, name)
        return self._parted.pools[name]

    def prompts(self, count: int) -> list[str]:
        return first_prompts(self._parted.prompts, count, self.name)

    def texts(self, corpus: str, count: int) -> list[Example]:
        """None: of held-out questions the answers are not kept, and nothing is pre-trained on."""
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
        held_out = {normalise(prompt) for prompt in self._parted.prompts}
        for pool, examples in self._parted.pools.items():
            for i, example in enumerate(examples):
                if normalise(example.prompt) in held_out:
                    raise TaskError(
                        f"task {self.name}: {pool} example {i} asks a held-out question: "
                        f"{example.prompt[:90]!r}"
                    )


@dataclass(frozen=True, slots=True)
class _Parted:
    """What the data was made into; `removed`: rows left out of each pool."""

    prompts: list[str]
    pools: dict[str, list[Example]]
    removed: dict[str, int]


@lru_cache(maxsize=4)
def _part(source: Source, read: Read, identity: str) -> _Parted:
    """Reads and parts the data, once per process; `identity` says what the files held."""
    return _apart(read(source.tables()))


def _apart(raw: Raw) -> _Parted:
    held_out: dict[str, str] = {}
    for question in raw.held_out:
        if len(question.split()) <= MAX_QUESTION_WORDS:
            held_out.setdefault(normalise(question), question)
    contrary = _contrary(row for rows in raw.pools.values() for row in rows)
    taught: set[tuple[str, str]] = set()
    pools: dict[str, list[Example]] = {pool: [] for pool in POOLS}
    for pool in POOLS:
        # The scorer judges what the others taught, so it learns from none of their dialogues.
        seen = set(taught) if pool == "scorer" else set()
        for question, answer, label in raw.pools.get(pool, ()):
            key = normalise(question), normalise(answer)
            if answer and key[0] not in held_out and key not in contrary and key not in seen:
                seen.add(key)
                pools[pool].append(Example(prompt_of(question), answer, label))
        taught |= seen
    removed = {pool: len(raw.pools.get(pool, ())) - len(pools[pool]) for pool in POOLS}
    return _Parted([prompt_of(question) for question in held_out.values()], pools, removed)


def _contrary(rows: Iterable[Row]) -> set[tuple[str, str]]:
    """The dialogues that carry more than one label."""
    labels: dict[tuple[str, str], int | None] = {}
    found = set()
    for question, answer, label in rows:
        key = normalise(question), normalise(answer)
        if labels.setdefault(key, label) != label:
            found.add(key)
    return found
