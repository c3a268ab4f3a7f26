"""Reads the splits of a task's data: from a folder of Parquet, JSONL or CSV files, or the hub.

Both give the same tables. Unreadable data raises `TaskError` with the file or dataset and what is
allowed; a failed download raises `UnreachableData`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.hub import download_error
from .task import TaskError, UnreachableData

if TYPE_CHECKING:
    import pyarrow as pa

READABLE = ("parquet", "jsonl", "csv")
"""Extensions of the supported files."""
SETTINGS = ("path", "name", "revision")
"""Settings (`data:`) of a task's source."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Splits:
    """The splits that a task reads. Those in `optional` may be missing; `config` is the dataset's
    configuration on the hub."""

    task: str
    names: tuple[str, ...]
    optional: tuple[str, ...] = ()
    config: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one file or hub split."""

    rows: pa.Table
    where: str
    """Name of the file or split, for error messages."""


@dataclass(frozen=True, slots=True)
class Source:
    """A folder (`folder`), or else a hub dataset at a commit: `hub` is (name, revision)."""

    splits: Splits
    folder: str | None
    hub: tuple[str, str]

    def identity(self) -> dict[str, Any]:
        """Return what identifies the data: a hub dataset and commit, or the hash of every file."""
        if self.folder is not None:
            names = self.splits.names
            return {
                n: file_hashes(self.splits, split_files(self.splits, self.folder, n)) for n in names
            }
        config = {"config": self.splits.config} if self.splits.config else {}
        return {"hub": self.hub[0], "revision": self.hub[1], **config}

    def tables(self) -> dict[str, list[Table]]:
        """Return the tables of each split in the order of the files; none for a missing split."""
        if self.folder is not None:
            return read_folder(self.splits, self.folder)
        return read_hub(self.splits, *self.hub)


def source_of(splits: Splits, settings: Mapping[str, Any], hub: str, revision: str) -> Source:
    """Return the source that the settings give; by default the dataset `hub` at `revision`.

    Raises `TaskError` for invalid settings.
    """
    task, path = splits.task, settings.get("path")
    if path is not None:
        if {"name", "revision"} & settings.keys():
            raise TaskError(f"task {task}: data: give path, or name and revision, not both")
        if not isinstance(path, str) or not Path(path).is_dir():
            raise TaskError(f"task {task}: data.path: found {path!r}; no such folder")
    name = settings.get("name", hub)
    if not isinstance(name, str) or not name:
        raise TaskError(
            f"task {task}: data.name: found {name!r}; a dataset's name, such as {hub!r}"
        )
    commit = settings.get("revision", revision if name == hub else None)
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise TaskError(
            f"task {task}: data.revision: found {commit!r} for {name}; a full commit id is needed "
            "(40 hexadecimal digits): branches and tags move"
        )
    return Source(splits, path, (name, commit))


def split_files(splits: Splits, folder: str, split: str) -> list[Path]:
    """Return the files of a split: one file, or all of its numbered parts in order.

    Raises `TaskError` if the split or a part is missing, or is there more than once.
    """
    form = re.compile(rf"{re.escape(split)}(?:-(\d+)(?:-of-(\d+))?)?\.({'|'.join(READABLE)})")
    named = [(path, form.fullmatch(path.name)) for path in Path(folder).iterdir()]
    found = [(path, match) for path, match in named if match]
    if not found and split not in splits.optional:
        raise TaskError(
            f"task {splits.task}: {folder}: no file of the split {split!r}; expected {split}.EXT, "
            f"or {split}-00000-of-00002.EXT and so on, with EXT one of {', '.join(READABLE)}"
        )
    found.sort(key=lambda file: (int(file[1][1] or 0), file[0].name))
    names = ", ".join(path.name for path, _ in found)
    if len({(match[1] is None, match[2], match[3]) for _, match in found}) > 1:
        raise TaskError(
            f"task {splits.task}: {folder}: the split {split!r} is there more than once: {names}; "
            "keep one"
        )
    parts = int(found[0][1][2] or 0) if found else 0
    if parts and [int(match[1]) for _, match in found] != list(range(parts)):
        raise TaskError(
            f"task {splits.task}: {folder}: of {parts} parts of {split!r} found only {names}"
        )
    return [path for path, _ in found]


def file_hashes(splits: Splits, paths: Iterable[Path]) -> list[str]:
    """Return the SHA-256 of each file; raise `TaskError` if one cannot be read."""
    hashes = []
    for path in paths:
        try:
            with path.open("rb") as file:
                hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as e:
            raise TaskError(f"task {splits.task}: {path}: cannot be read: {e}") from None
    return hashes


def read_folder(splits: Splits, folder: str) -> dict[str, list[Table]]:
    """Return the tables of each split of a folder, one per file."""
    return {
        split: [_read_file(splits.task, path) for path in split_files(splits, folder, split)]
        for split in splits.names
    }


def _read_file(task: str, path: Path) -> Table:
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
        raise TaskError(f"task {task}: {path}: cannot be read: {e}") from None
    return Table(table, str(path))


def read_hub(splits: Splits, name: str, revision: str) -> dict[str, list[Table]]:
    """Return the tables of each split of a hub dataset at a commit.

    Raises `UnreachableData` if it cannot be downloaded, `TaskError` if a split is missing.
    """
    task = splits.task
    alternative = (
        "give data.path, a local folder, e.g. --set task.data.path=FOLDER (of several tasks, "
        f"task.{task}.data.path=FOLDER)"
    )
    try:
        from datasets import load_dataset
    except ImportError:
        raise UnreachableData(
            f"task {task}: reading {name} from the hub needs the `datasets` package (extra "
            f"`train`); or {alternative}"
        ) from None
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # no warning for every retry; the error below says it
    try:
        loaded = load_dataset(name, splits.config, revision=revision)
    except Exception as e:
        raise UnreachableData(
            f"task {task}: {download_error('dataset', name, revision, e)}; or {alternative}"
        ) from None
    finally:
        logger.setLevel(level)
    missing = [s for s in splits.names if s not in loaded and s not in splits.optional]
    if missing:
        raise TaskError(f"task {task}: {name}: no split {missing[0]!r}; it has {', '.join(loaded)}")
    return {
        split: [Table(loaded[split].data.table, f"{name} {split}")] if split in loaded else []
        for split in splits.names
    }


def iter_rows(
    task: str, table: Table, names: Iterable[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each row's index and its values in the columns `names`.

    Raises `TaskError` if a column is missing.
    """
    names = list(names)
    for column in names:
        if column not in table.rows.column_names:
            existing = ", ".join(table.rows.column_names)
            raise TaskError(f"task {task}: {table.where}: no column {column!r}; it has {existing}")
    data = [table.rows.column(column).to_pylist() for column in names]
    for i, values in enumerate(zip(*data, strict=True)):
        yield i, dict(zip(names, values, strict=True))
