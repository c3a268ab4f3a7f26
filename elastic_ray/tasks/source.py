"""The data of a task: a folder or file on this machine, or a dataset on the hub.

Both give the same tables. Unreadable data raises `TaskError` with the file, row and column, and
what is allowed; a failed download raises `UnreachableData`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoints.hub import download_error
from .layout import Splits, find_splits
from .rows import FileProblem, Values, column_names, read_rows, select
from .task import TaskError, UnreachableData

SETTINGS = ("path", "name", "revision", "config")
"""Settings (`data:`) of a task's source."""
RELATIVE = " at the sweep file's folder, nor at the working directory"
"""Where a relative path of a sweep file was looked for; ends an error message."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one file or hub split."""

    rows: Callable[[Sequence[str]], Iterator[Values]]
    """Yields the values of the named columns of every row; raises `FileProblem`."""
    where: str
    """Name of the file or split, for error messages."""
    columns: Callable[[], list[str]]
    """Returns the names of the columns; raises `FileProblem`."""


@dataclass(frozen=True, slots=True)
class Source:
    """A folder or file (`path`), or else a hub dataset at a commit: `hub` is (name, revision).

    `config` is the configuration that the sweep file names.
    """

    splits: Splits
    path: str | None
    hub: tuple[str, str]
    config: str | None = None

    def identity(self) -> dict[str, Any]:
        """Return what identifies the data: a hub dataset and commit, or the hash of every file."""
        if self.path is not None:
            found = find_splits(self.splits, self.path, self.config)
            return {name: file_hashes(self.splits, found[name]) for name in self.splits.names}
        name = self.config or self.splits.config
        config = {"config": name} if name else {}
        return {"hub": self.hub[0], "revision": self.hub[1], **config}

    def tables(self) -> dict[str, list[Table]]:
        """Return the tables of each split in the order of the files; none for a missing split."""
        if self.path is not None:
            return read_folder(self.splits, self.path, self.config)
        return read_hub(self.splits, *self.hub, self.config)


def source_of(splits: Splits, settings: Mapping[str, Any], hub: str, revision: str) -> Source:
    """Return the source that the settings give; by default the dataset `hub` at `revision`.

    Raises `TaskError` for invalid settings.
    """
    task, path = splits.task, settings.get("path")
    if path is not None:
        if {"name", "revision"} & settings.keys():
            raise TaskError(f"task {task}: data: give path, or name and revision, not both")
        if not isinstance(path, str) or not Path(path).exists():
            starts = "" if str(path)[:1] == "/" else RELATIVE
            raise TaskError(f"task {task}: data.path: found {path!r}; no such folder{starts}")
    config = settings.get("config")
    if config is not None and (not isinstance(config, str) or not config):
        raise TaskError(f"task {task}: data.config: found {config!r}; a configuration's name")
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
    return Source(splits, path, (name, commit), config)


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


def read_folder(splits: Splits, path: str, config: str | None = None) -> dict[str, list[Table]]:
    """Return the tables of each split of a folder, one per file."""
    return {
        split: [_file_table(file) for file in files]
        for split, files in find_splits(splits, path, config).items()
    }


def _file_table(path: Path) -> Table:
    return Table(lambda names: read_rows(path, names), str(path), lambda: column_names(path))


def read_hub(
    splits: Splits, name: str, revision: str, config: str | None = None
) -> dict[str, list[Table]]:
    """Return the tables of each split of a hub dataset at a commit.

    Raises `UnreachableData` if it cannot be downloaded, `TaskError` if a split or configuration is
    missing.
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
        loaded = load_dataset(name, config or splits.config, revision=revision)
    except Exception as e:
        if (problem := _config_problem(config, e)) is not None:
            raise TaskError(f"task {task}: {problem}") from None
        raise UnreachableData(
            f"task {task}: {download_error('dataset', name, revision, e)}; or {alternative}"
        ) from None
    finally:
        logger.setLevel(level)
    missing = [s for s in splits.names if s not in loaded and s not in splits.optional]
    if missing:
        raise TaskError(f"task {task}: {name}: no split {missing[0]!r}; it has {', '.join(loaded)}")
    return {
        split: [_hub_table(loaded[split], f"{name} {split}")] if split in loaded else []
        for split in splits.names
    }


def _config_problem(config: str | None, error: Exception) -> str | None:
    """Return what to say of a dataset whose configuration is missing; None for other errors."""
    text = " ".join(str(error).split())
    found = re.search(r"(?i:config).*?(\[[^\]]*\])", text)
    if not isinstance(error, ValueError) or found is None:
        return None
    names = ", ".join(re.findall(r"['\"]([^'\"]+)['\"]", found[1]))
    if config is None:
        return f"data.config: missing; the dataset has {names}"
    return f"data.config: found {config!r}; the dataset has {names}"


def _hub_table(split: Any, where: str) -> Table:
    """Return the table of a split that `datasets` has loaded."""

    def rows(names: Sequence[str]) -> Iterator[Values]:
        table = split.data.table
        select(table.column_names, names)
        columns = [table.column(name).to_pylist() for name in names]
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))

    return Table(rows, where, lambda: list(split.data.table.column_names))


def iter_rows(task: str, table: Table, names: Iterable[str]) -> Iterator[tuple[int, Values]]:
    """Yield each row's index and its values in the columns `names`.

    Raises `TaskError` if a column is missing or there twice, or where the file cannot be read.
    """
    try:
        yield from enumerate(table.rows(list(names)))
    except FileProblem as e:
        raise TaskError(f"task {task}: {table.where}: {e}") from None
