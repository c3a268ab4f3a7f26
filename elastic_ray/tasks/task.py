"""The interface of a task, and what every task checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

from .selection import below

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

POOLS = ("pretrain", "positive", "negative", "scorer")
SHORTEST, LONGEST = 2, 8
"""Tokens of a prompt cut from a held-out review (paper, section 5.1 and appendix)."""


class TaskError(ValueError):
    """The task's data or settings cannot be used; the message says which, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Example:
    """One text to learn from. The loss is on `response` only; `prompt` may be empty.

    `label` is 1 for the aligned class, 0 for the contrary, None where there is none.
    """

    prompt: str
    response: str
    label: int | None = None


class Task(Protocol):
    """What the rest of the software needs of a task."""

    name: str
    identity: dict[str, Any]
    """What the texts are, as canonical-JSON values: content hashes and versions, never paths."""
    sizes: dict[str, int]
    """Examples by pool, and `prompts`, the most that can be asked."""
    mean_tokens: float
    """Tokens per example, roughly."""

    def pool(self, name: str) -> Sequence[Example]:
        """The examples of a pool, in a fixed order; `scorer` is held apart from all else."""
        ...

    def prompts(self, count: int) -> list[str]:
        """The first `count` held-out prompts, distinct."""
        ...

    def tokenizer(self, vocab_size: int | None) -> PreTrainedTokenizerFast:
        """The tokenizer of models trained from scratch on this task; the same every time."""
        ...

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        """What that tokenizer is, with its `vocab_size`."""
        ...

    def check_apart(self) -> None:
        """`TaskError` if a held-out text is also a training or scorer text."""
        ...


def normal(text: str) -> str:
    """Two texts are the same if they are equal in this form."""
    return " ".join(text.casefold().split())


def check_apart(name: str, held_out: Iterable[str], pools: Mapping[str, Sequence[Example]]) -> None:
    """`TaskError`, with the text, if a held-out text is also in a pool."""
    apart = {normal(text) for text in held_out}
    for pool, examples in pools.items():
        for i, example in enumerate(examples):
            if normal(f"{example.prompt} {example.response}") in apart:
                raise TaskError(
                    f"task {name}: {pool} example {i} is also held out: {example.response[:60]!r}"
                )


def cut_prompts(name: str, texts: Iterable[str], seed: int) -> list[str]:
    """Prompts of the first 2 to 8 words of each text, drawn by the text's place; distinct."""
    found: dict[str, None] = {}
    for i, text in enumerate(texts):
        words = text.split(" ")
        length = SHORTEST + below(LONGEST - SHORTEST + 1, name, "prompt", seed, i)
        if len(words) > length:
            found.setdefault(" ".join(words[:length]), None)
    return list(found)


def first(prompts: Sequence[str], count: int, name: str) -> list[str]:
    """The first `count` prompts, or `TaskError`."""
    if count > len(prompts):
        raise TaskError(f"task {name} holds {len(prompts):,} held-out prompts; asked for {count:,}")
    return list(prompts[:count])


def check_settings(task: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """`TaskError` for a setting that the task does not have."""
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise TaskError(
                f"task {task}: unknown setting data.{key}{meant}; allowed: {', '.join(known)}"
            )
