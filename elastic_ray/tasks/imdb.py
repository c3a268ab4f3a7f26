"""The IMDb reviews (Maas et al. 2011): from the hub, or from a local folder of files.

Pre-training reads the unlabelled split, fine-tuning the labelled train split; the test split is
parted in two by a hash of the text: one half labels the scorer's training, the other gives the
prompts. Texts are cleaned (`<br />` and runs of white space become one space). A text that appears
twice in a pool counts once, and one that is held out appears in no pool.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .selection import below, selection
from .task import Example, TaskError, check_apart, check_settings, cut_prompts, first, normal
from .tokenizers import byte_pairs

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerFast

VERSION = 1
"""Raised when cleaning or splitting changes."""
HUB, REVISION = "stanfordnlp/imdb", "e6281661ce1c48d982bc483cf8a173c1bbeb5d31"
SPLITS = ("train", "test", "unsupervised")
VOCABULARY = 4096
TOKENIZER_TEXTS = 20_000
SETTINGS = ("path", "name", "revision", "max_words")
READABLE = (".parquet", ".jsonl", ".csv")


class Imdb:
    """The `imdb` task. Settings (`data:`), all optional:

    `path`: a folder with train, test and unsupervised as Parquet, JSONL or CSV (a split may be
    several files, `train-00000-of-00002.parquet`), columns `text` and `label` (0 negative, 1
    positive; ignored in unsupervised). Without it, `name` and `revision` of a dataset on the hub.
    `max_words`: every review is cut to its first so many words.
    """

    name = "imdb"

    def __init__(self, **settings: Any) -> None:
        check_settings(self.name, settings, SETTINGS)
        self._path = settings.get("path")
        self._hub = (settings.get("name", HUB), settings.get("revision", REVISION))
        self._max_words = settings.get("max_words")
        if self._max_words is not None and (
            type(self._max_words) is not int or self._max_words < 10
        ):
            raise TaskError(
                f"task imdb: data.max_words: found {self._max_words!r}; a whole number from 10"
            )
        if self._path is not None:
            if {"name", "revision"} & settings.keys():
                raise TaskError("task imdb: data: give path, or name and revision, not both")
            if not isinstance(self._path, str) or not Path(self._path).is_dir():
                raise TaskError(f"task imdb: data.path: found {self._path!r}; no such folder")

    @cached_property
    def identity(self) -> dict[str, Any]:
        source: dict[str, Any]
        if self._path is None:
            source = {"hub": self._hub[0], "revision": self._hub[1]}
        else:
            source = {split: _content(_files(self._path, split)) for split in SPLITS}
        return {"task": self.name, "version": VERSION, "max_words": self._max_words, **source}

    @cached_property
    def _splits(self) -> dict[str, list[tuple[str, int]]]:
        if self._path is not None:
            return _read_folder(self._path, self._max_words, str(self.identity))
        return _read_hub(*self._hub, self._max_words)

    @cached_property
    def _parted(self) -> tuple[list[str], dict[str, list[Example]], dict[str, int]]:
        """Held-out texts, pools, and how many texts were left out of each, and why."""
        held: dict[str, str] = {}
        judged: list[tuple[str, int]] = []
        for text, label in self._splits["test"]:
            if below(2, self.name, "half", normal(text)):
                judged.append((text, label))
            else:
                held.setdefault(normal(text), text)
        raw = {
            "pretrain": [(text, -1) for text, _ in self._splits["unsupervised"]],
            "positive": [row for row in self._splits["train"] if row[1] == 1],
            "negative": [row for row in self._splits["train"] if row[1] == 0],
            "scorer": judged,
        }
        pools: dict[str, list[Example]] = {}
        removed: dict[str, int] = {}
        taught: set[str] = set()
        for pool, rows in raw.items():
            seen: set[str] = set()
            kept = []
            for text, label in rows:
                key = normal(text)
                # The scorer judges what the others taught, so it learns from none of their texts.
                if key in seen or key in held or (pool == "scorer" and key in taught):
                    continue
                seen.add(key)
                kept.append(Example("", text, label if label in (0, 1) else None))
            taught |= seen
            pools[pool] = kept
            removed[pool] = len(rows) - len(kept)
        return list(held.values()), pools, removed

    @property
    def removed(self) -> dict[str, int]:
        """Texts left out of each pool: duplicates, and those that are held out."""
        return self._parted[2]

    @cached_property
    def _prompts(self) -> list[str]:
        return cut_prompts(self.name, self._parted[0], VERSION)

    @cached_property
    def sizes(self) -> dict[str, int]:
        sizes = {pool: len(examples) for pool, examples in self._parted[1].items()}
        return {**sizes, "prompts": len(self._prompts)}

    @cached_property
    def mean_tokens(self) -> float:
        sample = self._parted[1]["positive"][:1000]
        return 1.4 * sum(len(e.response.split()) for e in sample) / max(len(sample), 1)

    def pool(self, name: str) -> Sequence[Example]:
        return self._parted[1][name]

    def prompts(self, count: int) -> list[str]:
        return first(self._prompts, count, self.name)

    def tokenizer(self, vocab_size: int | None) -> PreTrainedTokenizerFast:
        pool = self.pool("pretrain") or self.pool("positive")
        chosen = selection(len(pool), min(TOKENIZER_TEXTS, len(pool)), seed=0)
        return byte_pairs((pool[i].response for i in chosen), vocab_size or VOCABULARY)

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        return {
            "algorithm": "byte-level bpe",
            "version": VERSION,
            "vocab_size": vocab_size or VOCABULARY,
            "texts": self.identity,
        }

    def check_apart(self) -> None:
        check_apart(self.name, self._parted[0], self._parted[1])


def clean(text: str, max_words: int | None) -> str:
    """Without line-break tags and runs of white space, cut to `max_words`."""
    words = text.replace("<br />", " ").split()
    return " ".join(words[:max_words] if max_words else words)


def _files(folder: str, split: str) -> list[Path]:
    found = [
        path
        for path in sorted(Path(folder).iterdir())
        if path.suffix in READABLE and path.stem.split("-")[0] == split
    ]
    if not found and split != "unsupervised":
        raise TaskError(
            f"task imdb: {folder}: no file of the split {split!r}; "
            f"expected {split}{', '.join(READABLE)}, or {split}-*"
        )
    return found


def _content(files: Iterable[Path]) -> list[str]:
    found = []
    for path in files:
        with path.open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return found


@lru_cache(maxsize=4)
def _read_folder(
    folder: str, max_words: int | None, identity: str
) -> dict[str, list[tuple[str, int]]]:
    """The splits of a folder; `identity` keys the cache by the files' content."""
    return {
        split: [row for path in _files(folder, split) for row in _read_file(path, split, max_words)]
        for split in SPLITS
    }


def _read_file(path: Path, split: str, max_words: int | None) -> list[tuple[str, int]]:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    try:
        if path.suffix == ".parquet":
            table = pa.parquet.read_table(path)
        elif path.suffix == ".jsonl":
            table = pa.json.read_json(path)
        else:
            options = pa.csv.ParseOptions(newlines_in_values=True)
            table = pa.csv.read_csv(path, parse_options=options)
    except (pa.ArrowException, OSError) as e:
        raise TaskError(f"task imdb: {path}: cannot be read: {e}") from None
    return _rows(table, str(path), split, max_words)


def _rows(table: pa.Table, where: str, split: str, max_words: int | None) -> list[tuple[str, int]]:
    needed = ("text",) if split == "unsupervised" else ("text", "label")
    for column in needed:
        if column not in table.column_names:
            raise TaskError(
                f"task imdb: {where}: no column {column!r}; it has {', '.join(table.column_names)}"
            )
    texts = table.column("text").to_pylist()
    labels = [-1] * len(texts) if split == "unsupervised" else table.column("label").to_pylist()
    rows = []
    for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
        if not isinstance(text, str) or not text.strip():
            raise TaskError(f"task imdb: {where}: row {i}: text: found {text!r}; a text is needed")
        if split != "unsupervised" and label not in (0, 1):
            raise TaskError(
                f"task imdb: {where}: row {i}: label: found {label!r}; allowed: 0 and 1"
            )
        rows.append((clean(text, max_words), label))
    return rows


@lru_cache(maxsize=2)
def _read_hub(name: str, revision: str, max_words: int | None) -> dict[str, list[tuple[str, int]]]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise TaskError(
            "task imdb: reading from the hub needs the `datasets` package (extra `train`); "
            "or give data.path, a local folder"
        ) from None
    try:
        loaded = load_dataset(name, revision=revision)
    except Exception as e:
        raise TaskError(
            f"task imdb: {name}@{revision[:12]} cannot be had from the hub "
            f"({type(e).__name__}: {str(e).splitlines()[0][:200]}); give data.path, a local "
            "folder, e.g. --set task.data.path=FOLDER"
        ) from None
    missing = [split for split in SPLITS[:2] if split not in loaded]
    if missing:
        raise TaskError(f"task imdb: {name}: no split {missing[0]!r}; it has {', '.join(loaded)}")
    return {
        split: _rows(loaded[split].data.table, f"{name} {split}", split, max_words)
        if split in loaded
        else []
        for split in SPLITS
    }
