"""The IMDb reviews (Maas et al. 2011): from the hub, or from a local folder of files.

Pre-training uses the unlabelled split, fine-tuning the labelled train split. The test split is
divided by a hash of the text: one half trains the scorer, the other provides the prompts. Texts are
cleaned: `<br />` and repeated white space become one space. Duplicates within a pool are removed.
Held-out texts, and texts that begin with a whole held-out text, are removed from every pool. The
scorer's pool also contains no text of the other pools.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, get_args

from . import source
from .imdb_files import SPLITS, Row, read
from .scripts import approximate_tokens, is_spaceless
from .source import Source, source_of
from .subsets import hash_below, selection
from .task import (
    CHARACTERS_PER_WORD,
    Example,
    HeldOut,
    TaskError,
    Unit,
    check_leakage,
    check_pool,
    check_settings,
    cut_prompts,
    first_prompts,
    first_texts,
    join_answer,
    normalise,
    split_corpora,
)
from .tokenizers import byte_pair_tokenizer, check_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VERSION = 2
"""Increased when cleaning or splitting changes."""
HUB, REVISION = "stanfordnlp/imdb", "e6281661ce1c48d982bc483cf8a173c1bbeb5d31"
VOCABULARY = 4096
"""Default vocabulary size of the tokenizer."""
TOKENIZER_TEXTS = 20_000
"""Maximum number of texts that the tokenizer is trained on."""
SETTINGS = (*source.SETTINGS, "max_words", "unit", "max_characters")
MIN_MAX_WORDS = 10
"""Minimum of `max_words`: a prompt has up to eight words, and a continuation must follow it."""
SHORT = 8
"""Held-out texts of fewer characters than this do not decide whether words have spaces."""
TOKENS_PER_WORD = 1.53
"""Measured on the real reviews, with a vocabulary of `VOCABULARY` tokens."""
MEAN_WORDS = 230
"""Average length of a review."""


class Imdb:
    """The `imdb` task. Its settings (`data:`) are all optional:

    `path`: a folder with train, test and unsupervised as Parquet, JSONL or CSV (a split may be
    several files, `train-00000-of-00002.parquet`), columns `text` and `label` (0 negative, 1
    positive; ignored in unsupervised). `name` and `revision` (a full commit id): a dataset on the
    hub instead of a folder. `config`: the configuration of a dataset that has several.
    `max_words`: longer reviews are cut to this number of words. `unit: character`, for languages
    without spaces between words: prompts are cut by characters, and `max_characters` takes the
    place of `max_words`.
    Without an unsupervised split, the pool `pretrain` is empty; models from the hub do not need it.
    """

    name = "imdb"

    def __init__(self, /, **settings: Any) -> None:
        check_settings(self.name, settings, SETTINGS)
        self._unit: Unit = settings.get("unit", "word")
        if self._unit not in get_args(Unit):
            raise TaskError(
                f"task imdb: data.unit: found {self._unit!r}; allowed: {', '.join(get_args(Unit))}"
            )
        longest, other = "max_words", "max_characters"
        least = MIN_MAX_WORDS
        if self._unit == "character":
            longest, other, least = other, longest, MIN_MAX_WORDS * CHARACTERS_PER_WORD
        if settings.get(other) is not None:
            raise TaskError(
                f"task imdb: data.{other}: the unit is the {self._unit}; give {longest}"
            )
        self._longest = settings.get(longest)
        if self._longest is not None and (type(self._longest) is not int or self._longest < least):
            raise TaskError(
                f"task imdb: data.{longest}: found {self._longest!r}; "
                f"must be a whole number, at least {least}"
            )
        self._source = source_of(SPLITS, settings, HUB, REVISION)
        self.typical_tokens = TOKENS_PER_WORD * min(self._longest or MEAN_WORDS, MEAN_WORDS)

    @cached_property
    def identity(self) -> dict[str, Any]:
        origin = self._source.identity()
        if self._unit == "word":
            return {"task": self.name, "version": VERSION, "max_words": self._longest, **origin}
        unit = {"unit": self._unit, "max_characters": self._longest}
        return {"task": self.name, "version": VERSION, **unit, **origin}

    @property
    def _data(self) -> _SplitData:
        return _split(self._source, self._longest, self._unit, json.dumps(self.identity))

    @property
    def removed(self) -> dict[str, int]:
        """Texts removed from each pool: duplicates and held-out texts."""
        return dict(self._data.removed)

    @cached_property
    def _prompts(self) -> list[str]:
        held_out = self._data.held_out
        spaceless = sum(len(text) > SHORT and is_spaceless(text) for text in held_out)
        if self._unit == "word" and 2 * spaceless > len(held_out):
            prompts = cut_prompts(self.name, held_out, VERSION)
            if 2 * len(prompts) < len(held_out):  # otherwise spaces were put between the words
                raise TaskError(
                    f"task imdb: data.unit: missing; {spaceless:,} of {len(held_out):,} held-out "
                    "texts have no spaces between words, at which prompts are cut; give "
                    "data.unit: character (and max_characters in place of max_words)"
                )
        return cut_prompts(self.name, held_out, VERSION, self._unit)

    @cached_property
    def _texts(self) -> dict[str, list[Example]]:
        """Held-out texts by distribution.

        The unlabelled split has no held-out texts, so texts of both labels represent `pretrain`.
        """
        data = self._data
        return split_corpora(self.name, zip(data.held_out, data.labels, strict=True))

    @cached_property
    def sizes(self) -> dict[str, int]:
        sizes = {pool: len(examples) for pool, examples in self._data.pools.items()}
        fewest_texts = min(map(len, self._texts.values()))
        return {**sizes, "prompts": len(self._prompts), "texts": fewest_texts}

    @cached_property
    def mean_tokens(self) -> float:
        sample = self.pool("positive")[:1000]
        tokens = sum(approximate_tokens(e.response, TOKENS_PER_WORD) for e in sample)
        return tokens / max(len(sample), 1)

    def pool(self, name: str) -> Sequence[Example]:
        check_pool(self.name, name)
        return self._data.pools[name]

    def prompts(self, count: int) -> list[str]:
        return first_prompts(self._prompts, count, self.name)

    def texts(self, corpus: str, count: int) -> list[Example]:
        return first_texts(self._texts, corpus, count, self.name)

    def scored_text(self, prompt: str, response: str) -> str:
        return join_answer(prompt, response) if self._unit == "word" else f"{prompt}{response}"

    def tokenizer(self, vocab_size: int | None) -> PreTrainedTokenizerFast:
        check_vocabulary(self.name, vocab_size)
        # Without unlabelled texts, only a scorer needs a tokenizer, trained on fine-tuning texts.
        pool = self.pool("pretrain") or [*self.pool("positive"), *self.pool("negative")]
        chosen = selection(len(pool), min(TOKENIZER_TEXTS, len(pool)), seed=0)
        return byte_pair_tokenizer((pool[i].response for i in chosen), vocab_size or VOCABULARY)

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        check_vocabulary(self.name, vocab_size)
        return {
            "algorithm": "byte-level bpe",
            "version": VERSION,
            "vocab_size": vocab_size or VOCABULARY,
            "texts": self.identity,
        }

    def check_leakage(self) -> None:
        check_leakage(self.name, self._data.held_out, self._data.pools, self._unit)


@dataclass(frozen=True, slots=True)
class _SplitData:
    """The data after splitting and deduplication."""

    held_out: list[str]
    labels: list[int]
    """Labels of the held-out texts, in the same order."""
    pools: dict[str, list[Example]]
    removed: dict[str, int]
    """Number of texts removed from each pool."""


@lru_cache(maxsize=2)
def _split(origin: Source, longest: int | None, unit: Unit, identity: str) -> _SplitData:
    """Read and split the data, once per process.

    `identity` is part of the cache key, so that changed files are read again.
    """
    splits = read(origin, longest, unit)
    held_out: dict[str, Row] = {}
    scorer_rows: list[Row] = []
    for text, label in shuffle_if_sorted(splits["test"]):
        key = normalise(text)
        if hash_below(2, "imdb", "half", key):
            scorer_rows.append((text, label))
        else:
            held_out.setdefault(key, (text, label))
    raw = {
        "pretrain": splits["unsupervised"],
        "positive": [row for row in splits["train"] if row[1] == 1],
        "negative": [row for row in splits["train"] if row[1] == 0],
        "scorer": scorer_rows,
    }
    texts = [text for text, _ in held_out.values()]
    held_out_texts = HeldOut(texts, unit)
    model_texts: set[str] = set()
    pools: dict[str, list[Example]] = {}
    for pool, rows in raw.items():
        # The scorer is not trained on any text that the models are trained on.
        seen = set(model_texts) if pool == "scorer" else set()
        pools[pool] = []
        for text, label in rows:
            key = normalise(text)
            if key not in seen and not held_out_texts.matches(text):
                seen.add(key)
                pools[pool].append(Example("", text, None if label == -1 else label))
        model_texts |= seen
    removed = {pool: len(rows) - len(pools[pool]) for pool, rows in raw.items()}
    return _SplitData(texts, [label for _, label in held_out.values()], pools, removed)


def shuffle_if_sorted(rows: list[Row]) -> list[Row]:
    """Return the rows; if they are sorted by label, shuffle them with a fixed seed.

    The hub's rows are sorted. Prompts are taken from the front, so without shuffling they would
    all come from reviews of one label.
    """
    labels = [label for _, label in rows]
    if labels not in (sorted(labels), sorted(labels, reverse=True)) or len(set(labels)) < 2:
        return rows
    return [rows[i] for i in selection(len(rows), len(rows), seed=0)]
