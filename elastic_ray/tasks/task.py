"""The interface of tasks, and the checks and selections that they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..spec import CORPORA
from .subsets import hash_below

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

POOLS = ("pretrain", "positive", "negative", "scorer")
"""Pools of training examples: one per distribution, and labelled texts for the scorer."""
MIN_PROMPT_WORDS, MAX_PROMPT_WORDS = 2, 8
"""Length of a prompt cut from a held-out review (paper, section 3.4.1)."""
Unit = Literal["word", "character"]
"""What lengths of texts are counted in; characters for languages without spaces between words."""
CHARACTERS_PER_WORD = 2
"""Characters of a word in such a language, about."""


class TaskError(ValueError):
    """Unusable data or settings of a task; the message says which and what is allowed."""


class UnreachableData(TaskError):
    """The task's dataset cannot be downloaded from the hub. Its identity is still known."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training text. The loss is on `response` only; `prompt` may be empty.

    `label` is 1 for the aligned class, 0 for the contrary one, None for unlabelled texts. `ends` is
    False for a truncated text: the end token is then not trained on.
    """

    prompt: str
    response: str
    label: int | None = None
    ends: bool = True


class Task(Protocol):
    """Interface of a task: its training examples, prompts, texts and tokenizer."""

    @property
    def name(self) -> str:
        """Name in sweep files and results."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """What the texts are, as canonical-JSON values: content hashes and versions, no paths."""
        ...

    @property
    def sizes(self) -> dict[str, int]:
        """Examples by pool, with two more keys.

        `prompts`: the number of held-out prompts; `texts`: the number of held-out texts available
        for each of `spec.CORPORA`.
        """
        ...

    @property
    def mean_tokens(self) -> float:
        """Approximate tokens per example."""
        ...

    @property
    def typical_tokens(self) -> float:
        """Assumed tokens per example, for data that is unreachable."""
        ...

    def pool(self, name: str) -> Sequence[Example]:
        """Return the examples of a pool in a fixed order; `scorer` shares none with the others.

        Raises `TaskError` for an unknown pool.
        """
        ...

    def prompts(self, count: int) -> list[str]:
        """Return the first `count` held-out prompts, without duplicates.

        Raises `TaskError` if there are fewer.
        """
        ...

    def texts(self, corpus: str, count: int) -> list[Example]:
        """Return the first `count` held-out texts of one of `spec.CORPORA`; they share none.

        Raises `TaskError` for an unknown corpus or where there are fewer.
        """
        ...

    def scored_text(self, prompt: str, response: str) -> str:
        """Return the text that a scorer reads for an answer."""
        ...

    def tokenizer(self, vocab_size: int | None) -> PreTrainedTokenizerFast:
        """Return the tokenizer of models trained from scratch on this task; deterministic."""
        ...

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        """Return what identifies that tokenizer, including its `vocab_size`."""
        ...

    def check_leakage(self) -> None:
        """Raise `TaskError` if a training or scorer text is, or begins with, a held-out text."""
        ...


def normalise(text: str) -> str:
    """Return the text in the form in which texts are compared: lower case, single spaces."""
    return " ".join(text.casefold().split())


class HeldOut:
    """Index of held-out texts, to find texts that are, or begin with, one of them.

    Held-out texts no longer than a prompt may be are common openings; they match only whole texts.
    """

    def __init__(self, texts: Iterable[str], unit: Unit = "word") -> None:
        self._unit = unit
        self._whole = {normalise(text) for text in texts}
        # The final space makes the text end at a whole word.
        end = " " if unit == "word" else ""
        starts: dict[str, list[str]] = {}
        for text in self._whole:
            start = self._start(text)
            if len(start) < len(text):
                starts.setdefault(start, []).append(f"{text}{end}")
        self._by_start = {start: tuple(texts) for start, texts in starts.items()}

    def _start(self, text: str) -> str:
        if self._unit == "character":
            return text[: MAX_PROMPT_WORDS * CHARACTERS_PER_WORD]
        return " ".join(text.split(" ", MAX_PROMPT_WORDS)[:MAX_PROMPT_WORDS])

    def matches(self, text: str) -> bool:
        """Return whether `text` is a held-out text, or begins with a whole one."""
        text = normalise(text)
        return text in self._whole or text.startswith(self._by_start.get(self._start(text), ()))


def check_leakage(
    name: str,
    held_out: Iterable[str],
    pools: Mapping[str, Sequence[Example]],
    unit: Unit = "word",
) -> None:
    """Raise `TaskError`, with the text, if a text of a pool is, or begins with, a held-out one."""
    index = HeldOut(held_out, unit)
    for pool, examples in pools.items():
        for i, example in enumerate(examples):
            if index.matches(f"{example.prompt} {example.response}"):
                raise TaskError(
                    f"task {name}: {pool} example {i} is also held out: {example.response[:60]!r}"
                )


def check_pool(task: str, name: str) -> None:
    """Raise `TaskError` for an unknown pool."""
    if name not in POOLS:
        raise TaskError(f"task {task}: no pool {name!r}; pools: {', '.join(POOLS)}")


def cut_prompts(name: str, texts: Iterable[str], seed: int, unit: Unit = "word") -> list[str]:
    """Return the first 2 to 8 words of each text as prompts, without duplicates.

    The length depends on the index of the text. Where the unit is the character, a word counts as
    `CHARACTERS_PER_WORD` of them.
    """
    prompts: dict[str, None] = {}
    for i, text in enumerate(texts):
        length = MIN_PROMPT_WORDS + hash_below(
            MAX_PROMPT_WORDS - MIN_PROMPT_WORDS + 1, name, "prompt", seed, i
        )
        if unit == "character":
            prompt = text[: length * CHARACTERS_PER_WORD].rstrip()
        else:
            prompt = " ".join(text.split(" ", length)[:length])
        if len(prompt) < len(text):
            prompts.setdefault(prompt, None)
    return list(prompts)


def join_answer(prompt: str, response: str) -> str:
    """Return prompt and answer as one text, with white space between the two."""
    between = "" if not prompt or response[:1].isspace() else " "
    return f"{prompt}{between}{response}"


def first_prompts(prompts: Sequence[str], count: int, name: str) -> list[str]:
    """Return the first `count` prompts; raise `TaskError` if there are fewer."""
    if not 0 <= count <= len(prompts):
        raise TaskError(f"task {name} holds {len(prompts):,} held-out prompts; asked for {count:,}")
    return list(prompts[:count])


def split_corpora(name: str, texts: Iterable[tuple[str, int]]) -> dict[str, list[Example]]:
    """Return held-out texts, given as (text, label), by the distribution that they represent.

    Half of the texts of either label represent `pretrain`, the others the distribution of their
    label. A hash of the text decides which, and the order: neither depends on how the data is
    sorted.
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
    """Return the first `count` texts of a corpus; raise `TaskError` if there are fewer."""
    if corpus not in held:
        raise TaskError(f"task {name}: no corpus {corpus!r}; corpora: {', '.join(CORPORA)}")
    if not 0 <= count <= len(held[corpus]):
        raise TaskError(
            f"task {name} holds {len(held[corpus]):,} held-out {corpus} texts; asked for {count:,}"
        )
    return list(held[corpus][:count])


def check_settings(task: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise `TaskError` for a setting that the task does not have."""
    for key in given:
        if key not in known:
            similar = get_close_matches(key, known, n=1)
            suggestion = f" (did you mean {similar[0]!r}?)" if similar else ""
            raise TaskError(
                f"task {task}: unknown setting data.{key}{suggestion}; allowed: {', '.join(known)}"
            )
