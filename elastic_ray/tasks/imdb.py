"""The IMDb reviews (Maas et al. 2011): from the hub, or from a local folder of files.

Pre-training reads the unlabelled split, fine-tuning the labelled train split; the test split is
parted in two by a hash of the text: one half labels the scorer's training, the other gives the
prompts. Texts are cleaned (`<br />` and runs of white space become one space). A text that appears
twice in a pool counts once; one that is held out, or begins with a whole held-out text, appears in
no pool; the scorer learns from no text that another pool holds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from . import source
from .imdb_files import SPLITS, Row, read
from .source import Source, source_of
from .subsets import below, selection
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
    normal,
)
from .tokenizers import byte_pairs, check_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VERSION = 2
"""Raised when cleaning or splitting changes."""
HUB, REVISION = "stanfordnlp/imdb", "e6281661ce1c48d982bc483cf8a173c1bbeb5d31"
VOCABULARY = 4096
TOKENIZER_TEXTS = 20_000
SETTINGS = (*source.SETTINGS, "max_words")
SHORTEST_CUT = 10
"""The least `max_words`: a prompt has up to eight words, and something has to follow it."""
TOKENS_PER_WORD = 1.53
"""With `VOCABULARY` tokens, on the real reviews."""
WORDS = 230
"""Of a review, on average."""


class Imdb:
    """The `imdb` task. Settings (`data:`), all optional:

    `path`: a folder with train, test and unsupervised as Parquet, JSONL or CSV (a split may be
    several files, `train-00000-of-00002.parquet`), columns `text` and `label` (0 negative, 1
    positive; ignored in unsupervised). Without it, `name` and `revision` (a full commit id) of a
    dataset on the hub. `max_words`: every review is cut to its first so many words.
    Without an unsupervised split the pool `pretrain` is empty: models from the hub need none.
    """

    name = "imdb"

    def __init__(self, /, **settings: Any) -> None:
        check_settings(self.name, settings, SETTINGS)
        self._max_words = settings.get("max_words")
        if self._max_words is not None and (
            type(self._max_words) is not int or self._max_words < SHORTEST_CUT
        ):
            raise TaskError(
                f"task imdb: data.max_words: found {self._max_words!r}; "
                f"a whole number from {SHORTEST_CUT}"
            )
        self._source = source_of(SPLITS, settings, HUB, REVISION)
        self.typical_tokens = TOKENS_PER_WORD * min(self._max_words or WORDS, WORDS)

    @cached_property
    def identity(self) -> dict[str, Any]:
        held = self._source.identity()
        return {"task": self.name, "version": VERSION, "max_words": self._max_words, **held}

    @property
    def _parted(self) -> _Parted:
        return _part(self._source, self._max_words, json.dumps(self.identity))

    @property
    def removed(self) -> dict[str, int]:
        """How many texts were left out of each pool, as duplicates or because they are held out."""
        return dict(self._parted.removed)

    @cached_property
    def _prompts(self) -> list[str]:
        return cut_prompts(self.name, self._parted.held_out, VERSION)

    @cached_property
    def _texts(self) -> dict[str, list[Example]]:
        """The unlabelled split keeps nothing back: held-out texts of either label stand for it."""
        parted = self._parted
        return corpora(self.name, zip(parted.held_out, parted.labels, strict=True))

    @cached_property
    def sizes(self) -> dict[str, int]:
        sizes = {pool: len(examples) for pool, examples in self._parted.pools.items()}
        least = min(map(len, self._texts.values()))
        return {**sizes, "prompts": len(self._prompts), "texts": least}

    @cached_property
    def mean_tokens(self) -> float:
        sample = self.pool("positive")[:1000]
        return TOKENS_PER_WORD * sum(len(e.response.split()) for e in sample) / max(len(sample), 1)

    def pool(self, name: str) -> Sequence[Example]:
        check_pool(self.name, name)
        return self._parted.pools[name]

    def prompts(self, count: int) -> list[str]:
        return first(self._prompts, count, self.name)

    def texts(self, corpus: str, count: int) -> list[Example]:
        return first_texts(self._texts, corpus, count, self.name)

    def judged(self, prompt: str, response: str) -> str:
        return continued(prompt, response)

    def tokenizer(self, vocab_size: int | None) -> PreTrainedTokenizerFast:
        check_vocabulary(self.name, vocab_size)
        # Without unlabelled text only a scorer needs this: it then sees what the models are taught.
        pool = self.pool("pretrain") or [*self.pool("positive"), *self.pool("negative")]
        chosen = selection(len(pool), min(TOKENIZER_TEXTS, len(pool)), seed=0)
        return byte_pairs((pool[i].response for i in chosen), vocab_size or VOCABULARY)

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        check_vocabulary(self.name, vocab_size)
        return {
            "algorithm": "byte-level bpe",
            "version": VERSION,
            "vocab_size": vocab_size or VOCABULARY,
            "texts": self.identity,
        }

    def check_apart(self) -> None:
        check_apart(self.name, self._parted.held_out, self._parted.pools)


@dataclass(frozen=True, slots=True)
class _Parted:
    """What the splits were made into; `labels` are those of the held-out texts, `removed` the texts
    left out of each pool."""

    held_out: list[str]
    labels: list[int]
    pools: dict[str, list[Example]]
    removed: dict[str, int]


@lru_cache(maxsize=2)
def _part(where: Source, max_words: int | None, identity: str) -> _Parted:
    """Reads and parts the splits, once per process; `identity` says what the files held."""
    splits = read(where, max_words)
    held_out: dict[str, Row] = {}
    judged: list[Row] = []
    for text, label in mixed(splits["test"]):
        key = normal(text)
        if below(2, "imdb", "half", key):
            judged.append((text, label))
        else:
            held_out.setdefault(key, (text, label))
    raw = {
        "pretrain": splits["unsupervised"],
        "positive": [row for row in splits["train"] if row[1] == 1],
        "negative": [row for row in splits["train"] if row[1] == 0],
        "scorer": judged,
    }
    texts = [text for text, _ in held_out.values()]
    apart = HeldOut(texts)
    taught: set[str] = set()
    pools: dict[str, list[Example]] = {}
    for pool, rows in raw.items():
        # The scorer judges what the others taught, so it learns from none of their texts.
        seen = set(taught) if pool == "scorer" else set()
        pools[pool] = []
        for text, label in rows:
            key = normal(text)
            if key not in seen and not apart.begins(text):
                seen.add(key)
                pools[pool].append(Example("", text, None if label == -1 else label))
        taught |= seen
    removed = {pool: len(rows) - len(pools[pool]) for pool, rows in raw.items()}
    return _Parted(texts, [label for _, label in held_out.values()], pools, removed)


def mixed(rows: list[Row]) -> list[Row]:
    """The rows as they are; in one fixed order of chance where they are sorted by label, as the
    hub's are: prompts are taken from the front, and would all begin reviews of one mood."""
    labels = [label for _, label in rows]
    if labels not in (sorted(labels), sorted(labels, reverse=True)) or len(set(labels)) < 2:
        return rows
    return [rows[i] for i in selection(len(rows), len(rows), seed=0)]
