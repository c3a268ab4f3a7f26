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
from itertools import chain
from typing import TYPE_CHECKING, Any

from . import source
from .source import Source, Table
from .split_task import TOKENIZER_TEXTS, VOCABULARY, SplitData, SplitTask
from .subsets import hash_below, selection
from .task import POOLS, Example, TaskError, normalise
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
Row = tuple[str, str, int | None]
"""A question, its answer, and its label: 1 aligned, 0 contrary, None unlabelled."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A task's data before deduplication: held-out questions, and rows by pool."""

    held_out: list[str]
    pools: Mapping[str, list[Row]]


Read = Callable[[Mapping[str, Sequence[Table]]], Raw]


def split_by_safety(
    task: str,
    rows: Callable[[Table], Iterable[Row]],
    train: Sequence[Table],
    test: Sequence[Table],
) -> Raw:
    """Divide dialogues that are labelled safe (1) or unsafe (0) among the pools of `task`.

    `rows` yields the dialogues of a table. Those of `train` are positive or negative. The questions
    of `test` are divided by a hash: one half gives the scorer's dialogues, the other the held-out
    questions.
    """
    pools: dict[str, list[Row]] = {"positive": [], "negative": [], "scorer": []}
    for row in chain.from_iterable(map(rows, train)):
        pools["positive" if row[2] == 1 else "negative"].append(row)
    held_out = []
    for row in chain.from_iterable(map(rows, test)):
        if hash_below(2, task, "half", normalise(row[0])):
            pools["scorer"].append(row)
        else:
            held_out.append(row[0])
    return Raw(held_out, pools)


def prompt_of(question: str) -> str:
    """Return the prompt for a question."""
    return PROMPT.format(question=question)


def question_in(prompt: str) -> str:
    """Return the question of a prompt that `prompt_of` made; raise `ValueError` for another."""
    before, after = PROMPT.split("{question}")
    if not (prompt.startswith(before) and prompt.endswith(after)):
        raise ValueError(f"no prompt of a dialogue: {prompt[:60]!r}")
    return prompt[len(before) : len(prompt) - len(after)]


class Dialogues(SplitTask):
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
    def _data(self) -> SplitData:
        return _split(self._source, self._read, self._longest, json.dumps(self.identity))

    def scored_text(self, prompt: str, response: str) -> str:
        return f"{prompt}{response.strip()}"

    def tokenizer(self, vocab_size: int | None) -> PreTrainedTokenizerFast:
        check_vocabulary(self.name, vocab_size)
        pool = [*self.pool("positive"), *self.pool("negative")]
        chosen = selection(len(pool), min(TOKENIZER_TEXTS, len(pool)), seed=0)
        texts = (self.scored_text(pool[i].prompt, pool[i].response) for i in chosen)
        return byte_pair_tokenizer(texts, vocab_size or VOCABULARY)

    def check_leakage(self) -> None:
        held_out = {normalise(prompt) for prompt in self._data.prompts}
        for pool, examples in self._data.pools.items():
            for i, example in enumerate(examples):
                if normalise(example.prompt) in held_out:
                    raise TaskError(
                        f"task {self.name}: {pool} example {i} asks a held-out question: "
                        f"{example.prompt[:90]!r}"
                    )


@lru_cache(maxsize=4)
def _split(origin: Source, read: Read, longest: int | None, identity: str) -> SplitData:
    """Read and split the data, once per process.

    `identity` makes the cache notice changed files.
    """
    return _deduplicate(read(origin.tables()), longest)


def _deduplicate(raw: Raw, longest: int | None = None) -> SplitData:
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
    return SplitData([prompt_of(question) for question in held_out.values()], pools, removed)


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
