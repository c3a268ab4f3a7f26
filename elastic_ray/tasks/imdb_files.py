"""Reading the IMDb splits: a folder's Parquet, JSONL or CSV files, or a dataset on the hub.

Either gives the same rows, cleaned and checked; whatever cannot be read is a `TaskError` that names
the file and what is allowed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .task import TaskError

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "test", "unsupervised")
READABLE = ("parquet", "jsonl", "csv")
_NAMED = re.compile(rf"({'|'.join(SPLITS)})(?:-(\d+)(?:-of-(\d+))?)?\.({'|'.join(READABLE)})")

Row = tuple[str, int]
"""A cleaned text and its label: 1 positive, 0 negative, -1 none."""


def clean(text: str, max_words: int | None) -> str:
    """Without line-break tags and runs of white space, cut to `max_words`."""
    words = text.replace("<br />", " ").split()
    return " ".join(words[:max_words] if max_words else words)


def files(folder: str, split: str) -> list[Path]:
    """The files of a split in order: one, or numbered parts of one kind, none missing."""
    named = [(path, _NAMED.fullmatch(path.name)) for path in Path(folder).iterdir()]
    found = [(path, match) for path, match in named if match and match[1] == split]
    if not found and split != "unsupervised":
        raise TaskError(
            f"task imdb: {folder}: no file of the split {split!r}; expected {split}.EXT, or "
            f"{split}-00000-of-00002.EXT and so on, with EXT one of {', '.join(READABLE)}"
        )
    found.sort(key=lambda file: (int(file[1][2] or 0), file[0].name))
    names = ", ".join(path.name for path, _ in found)
    if len({(match[2] is None, match[3], match[4]) for _, match in found}) > 1:
        raise TaskError(
            f"task imdb: {folder}: the split {split!r} is there more than once: {names}; keep one"
        )
    parts = int(found[0][1][3] or 0) if found else 0
    if parts and [int(match[2]) for _, match in found] != list(range(parts)):
        raise TaskError(f"task imdb: {folder}: of {parts} parts of {split!r} found only {names}")
    return [path for path, _ in found]


def content(paths: Iterable[Path]) -> list[str]:
    """The SHA-256 of each file; `TaskError` where one cannot be read."""
    found = []
    for path in paths:
        try:
            with path.open("rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as e:
            raise TaskError(f"task imdb: {path}: cannot be read: {e}") from None
    return found


def read_folder(folder: str, max_words: int | None) -> dict[str, list[Row]]:
    """The rows of each split of a folder, in the files' order; unsupervised may be empty."""
    return {
        split: [row for path in files(folder, split) for row in _read_file(path, split, max_words)]
        for split in SPLITS
    }


def _read_file(path: Path, split: str, max_words: int | None) -> list[Row]:
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


def _rows(table: pa.Table, where: str, split: str, max_words: int | None) -> list[Row]:
    needed = ("text",) if split == "unsupervised" else ("text", "label")
    for column in needed:
        if column not in table.column_names:
            raise TaskError(
                f"task imdb: {where}: no column {column!r}; it has {', '.join(table.column_names)}"
            )
    texts = table.column("text").to_pylist()
    labels = [-1] * len(texts) if split == "unsupervised" else table.column("label").to_pylist()
    allowed = (-1,) if split == "unsupervised" else (0, 1)
    rows = []
    for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
        cleaned = clean(text, max_words) if isinstance(text, str) else ""
        if not cleaned:
            raise TaskError(f"task imdb: {where}: row {i}: text: found {text!r}; a text is needed")
        if isinstance(label, bool) or label not in allowed:
            raise TaskError(
                f"task imdb: {where}: row {i}: label: found {label!r}; allowed: 0 and 1"
            )
        rows.append((cleaned, int(label)))
    return rows


def read_hub(name: str, revision: str, max_words: int | None) -> dict[str, list[Row]]:
    """The rows of each split of a hub dataset at a commit; unsupervised may be empty."""
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
            f"({type(e).__name__}: {' '.join(str(e).split())[:200]}); give data.path, a local "
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
