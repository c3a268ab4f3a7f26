"""Reads, cleans and checks the IMDb splits, from a folder's files or the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from . import source
from .layout import Splits
from .source import Source, Table, iter_rows
from .values import label_of, problem, text_of

SPLITS = Splits("imdb", ("train", "test", "unsupervised"), optional=("unsupervised",))

Row = tuple[str, int]
"""A cleaned text and its label: 1 positive, 0 negative, -1 none."""


def clean(text: str, max_words: int | None) -> str:
    """Return the text without line-break tags and repeated white space, cut to `max_words`."""
    words = text.replace("<br />", " ").split()
    return " ".join(words[:max_words] if max_words else words)


def read(origin: Source, max_words: int | None) -> dict[str, list[Row]]:
    """Return the rows of each split, in the order of the files; unsupervised may be empty."""
    return _cleaned(origin.tables(), max_words)


def read_folder(folder: str, max_words: int | None) -> dict[str, list[Row]]:
    """Return the rows of each split of a folder."""
    return _cleaned(source.read_folder(SPLITS, folder), max_words)


def read_hub(name: str, revision: str, max_words: int | None) -> dict[str, list[Row]]:
    """Return the rows of each split of a hub dataset at a commit."""
    return _cleaned(source.read_hub(SPLITS, name, revision), max_words)


def _cleaned(tables: Mapping[str, Iterable[Table]], max_words: int | None) -> dict[str, list[Row]]:
    return {
        split: [row for table in parts for row in _rows(table, split, max_words)]
        for split, parts in tables.items()
    }


def _rows(table: Table, split: str, max_words: int | None) -> list[Row]:
    """Return the table's rows; raise `TaskError` for missing texts and invalid labels."""
    unlabelled = split == "unsupervised"
    rows = []
    for i, row in iter_rows("imdb", table, ("text",) if unlabelled else ("text", "label")):
        text = text_of("imdb", table, i, "text", row["text"])
        cleaned = clean(text, max_words)
        if not cleaned:
            raise problem("imdb", table, i, "text", row["text"], "a text is needed")
        label = -1 if unlabelled else label_of("imdb", table, i, "label", row["label"])
        rows.append((cleaned, label))
    return rows
