"""Reads, cleans and checks the IMDb splits, from a folder's files or the hub."""

from __future__ import annotations

from .layout import Splits
from .source import Source, Table, iter_rows
from .task import Unit
from .values import label_of, problem, text_of

SPLITS = Splits("imdb", ("train", "test", "unsupervised"), optional=("unsupervised",))

Row = tuple[str, int]
"""A cleaned text and its label: 1 positive, 0 negative, -1 none."""


def clean(text: str, longest: int | None, unit: Unit = "word") -> str:
    """Return the text without line-break tags and repeated white space, cut to `longest` units."""
    words = text.replace("<br />", " ").split()
    if unit == "character":
        return " ".join(words)[:longest].rstrip()
    return " ".join(words[:longest] if longest else words)


def read(origin: Source, longest: int | None, unit: Unit = "word") -> dict[str, list[Row]]:
    """Return the rows of each split, in the order of the files; unsupervised may be empty."""
    return {
        split: [row for table in parts for row in _rows(table, split, longest, unit)]
        for split, parts in origin.tables().items()
    }


def _rows(table: Table, split: str, longest: int | None, unit: Unit) -> list[Row]:
    """Return the table's rows; raise `TaskError` for missing texts and invalid labels."""
    unlabelled = split == "unsupervised"
    rows = []
    for i, row in iter_rows("imdb", table, ("text",) if unlabelled else ("text", "label")):
        text = text_of("imdb", table, i, "text", row["text"])
        cleaned = clean(text, longest, unit)
        if not cleaned:
            raise problem("imdb", table, i, "text", row["text"], "a text is needed")
        label = -1 if unlabelled else label_of("imdb", table, i, "label", row["label"])
        rows.append((cleaned, label))
    return rows
