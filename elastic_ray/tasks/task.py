"""The interface of a task, and what every task checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

from ..spec import CORPORA
from .subsets import hash_below

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

POOLS = ("pretrain", "positive", "negative", "scorer")
MIN_PROMPT_WORDS, MAX_PROMPT_WORDS = 2, 8
"""Tokens of a prompt cut from a held-out review (paper, section 3.4.1)."""


class TaskError(ValueError):
    """The task's data or settings cannot be used; the message says which, and what is allowed."""


class UnreachableData(TaskError):
    """The task's data set cannot be had from the hub; its identity is known all the same."""


@dataclass(frozen=True, slots=True)
class Example:
    """One text to learn from. The loss is on `response` only; `prompt` may be empty.

    `label` is 1 for the aligned class, 0 for the contrary, None where there is none. Of a text that
    was cut, and does not end (`ends`), the end is not learnt.
    """

    prompt: str
    response: str
    label: int | None = None
    ends: bool = True


class Task(Protocol):
    """What the rest of the software needs of a task."""

    name: str
    identity: dict[str, Any]
    """What the texts are, as canonical-JSON values: content hashes and versions, never paths."""
    sizes: dict[str, int]
    """Examples by pool; `prompts`, the most that can be asked; `texts`, the most that can be had of
    each of the `CORPORA`."""
    mean_tokens: float
    """Tokens per example, roughly."""
    typical_tokens: float
    """The same as an assumption, for where the data cannot be reached."""

    def pool(self, name: str) -> Sequence[Example]:
        """The examples of a pool, in a fixed order; `scorer` is held apart from all else."""
        ...

    def prompts(self, count: int) -> list[str]:
        """The first `count` held-out prompts, distinct."""
        ...

    def texts(self, corpus: str, count: int) -> list[Example]:
        """The first `count` held-out texts of one of the `CORPORA`, which share none."""
        ...

    def scored_text(self, prompt: str, response: str) -> str:
        """What a scorer reads of an answer."""
        ...

    def tokenizer(self, vocab_size: int | None) -> PreTrainedTokenizerFast:
        """The tokenizer of models trained from scratch on this task; the same every time."""
        ...

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        """What that tokenizer is, with its `vocab_size`."""
        ...

    def check_leakage(self) -> None:
        """`TaskError` if a training or scorer text is a held-out one, or begins with one."""
        ...


def normalise(text: str) -> str:
    """Two texts are the same if they are equal in this form."""
    return " ".join(text.casefold().split())


class HeldOut:
    """Held-out texts, to ask of other texts whether they are, or begin with, one of them.

    A text of no more than `MAX_PROMPT_WORDS` words is a common opening: only its equal counts.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._whole = {normalise(text) for text in texts}
        starts: dict[str, list[str]] = {}
        for text in self._whole:
            words = text.split(" ")
            if len(words) > MAX_PROMPT_WORDS:  # the space ends it at a whole word
                starts.setdefault(" ".join(words[:MAX_PROMPT_WORDS]), []).append(f"{text} ")
        self._starting = {start: tuple(found) for start, found in starts.items()}

    def matches(self, text: str) -> bool:
        """Whether `text` is a held-out text, or begins with a whole one."""
        known = normalise(text)
        start = " ".join(known.split(" ", MAX_PROMPT_WORDS)[:MAX_PROMPT_WORDS])
        return known in self._whole or known.startswith(self._starting.get(start, ()))


def check_leakage(
    name: str, held_out: Iterable[str], pools: Mapping[str, Sequence[Example]]
) -> None:
    """`TaskError`, with the text, if a text of a pool is, or begins with, a held-out one."""
    apart = HeldOut(held_out)
    for pool, examples in pools.items():
        for i, example in enumerate(examples):
            if apart.matches(f"{example.prompt} {example.response}"):
                raise TaskError(
                    f"task {name}: {pool} example {i} is also held out: {example.response[:60]!r}"
                )


def check_pool(task: str, name: str) -> None:
    """`TaskError` for a pool that no task has."""
    if name not in POOLS:
        raise TaskError(f"task {task}: no pool {name!r}; pools: {', '.join(POOLS)}")


def cut_prompts(name: str, texts: Iterable[str], seed: int) -> list[str]:
    """Prompts of the first 2 to 8 words of each text, drawn by the text's place; distinct."""
    found: dict[str, None] = {}
    for i, text in enumerate(texts):
        words = text.split(" ")
        length = MIN_PROMPT_WORDS + hash_below(
            MAX_PROMPT_WORDS - MIN_PROMPT_WORDS + 1, name, "prompt", seed, i
        )
        if len(words) > length:
            found.setdefault(" ".join(words[:length]), None)
    return list(found)


def join_answer(prompt: str, response: str) -> str:
    """The text that an answer continues, with one space or line break between the two."""
    between = "" if not prompt or response[:1].isspace() else " "
    return f"{prompt}{between}{response}"


def first_prompts(prompts: Sequence[str], count: int, name: str) -> list[str]:
    """The first `count` prompts, or `TaskError`."""
    if not 0 <= count <= len(prompts):
        raise TaskError(f"task {name} holds {len(prompts):,} held-out prompts; asked for {count:,}")
    return list(prompts[:count])


def split_corpora(name: str, texts: Iterable[tuple[str, int]]) -> dict[str, list[Example]]:
    """Held-out texts, each with its label, by the distribution that they stand for.

    Half of them, of either label, are `pretrain`; the others are their label's. Which half is told
    by a hash of the text, and so is the order: nothing depends on how the data is sorted.
    """
    found: dict[str, list[tuple[int, Example]]] = {corpus: [] for corpus in CORPORA}
    for text, label in texts:
        place = hash_below(1 << 63, name, "corpus", normalise(text))
        corpus = "pretrain" if place % 2 else ("negative", "positive")[label]
        found[corpus].append((place, Example("", text, label)))
    return {
        corpus: [example for _, example in sorted(placed, key=lambda at: at[0])]
        for corpus, placed in found.items()
    }


def first_texts(
    held: Mapping[str, Sequence[Example]], corpus: str, count: int, name: str
) -> list[Example]:
    """The first `count` texts of a corpus, or `TaskError`."""
    if corpus not in held:
        raise TaskError(f"task {name}: no corpus {corpus!r}; corpora: {', '.join(CORPORA)}")
    if not 0 <= count <= len(held[corpus]):
        raise TaskError(
            f"task {name} holds {len(held[corpus]):,} held-out {corpus} texts; asked for {count:,}"
        )
    return list(held[corpus][:count])


def check_settings(task: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """`TaskError` for a setting that the task does not have."""
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise TaskError(
                f"task {task}: unknown setting data.{key}{meant}; allowed: {', '.join(known)}"
            )
