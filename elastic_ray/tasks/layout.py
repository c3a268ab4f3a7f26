"""Finds the files of a task's splits in a folder, in the layouts that data sets come in.

A split is one file, `train.jsonl`, or numbered parts, `train-00000-of-00002-<hash>.parquet`. The
files lie in the folder itself, below `data/`, below a folder per configuration, in a folder per
split (`train/0000.parquet`), or where the data set's card (`README.md`) says. The content of the
files is the identity of the data; where they lie is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .rows import COMPRESSIONS, FORMATS
from .task import TaskError

_FIRST = ("parquet", "jsonl", "csv")
"""The extensions that are looked for first; another file of the split beside them is ignored."""
_DEPTH = 3
"""Levels of folders that are searched."""


@dataclass(frozen=True, slots=True)
class Splits:
    """The splits that a task reads. Those in `optional` may be missing; `config` is the dataset's
    configuration where the sweep file names none."""

    task: str
    names: tuple[str, ...]
    optional: tuple[str, ...] = ()
    config: str | None = None

    @property
    def required(self) -> tuple[str, ...]:
        """The splits that must be there."""
        return tuple(name for name in self.names if name not in self.optional)


Found = dict[str, list[Path]]
"""The files of each split, in order; none for an optional split that is not there."""


def find_splits(splits: Splits, path: str, config: str | None) -> Found:
    """Return the files of each split below `path`, a folder, or a file with the only split.

    `config` is the configuration that the sweep file names. Raises `TaskError` if a split or a part
    is missing, is there more than once, or where several configurations are there and none is
    named.
    """
    root = Path(path)
    if root.is_file():
        if len(splits.required) > 1 or config:
            raise TaskError(
                f"task {splits.task}: data.path: found the file {path}; a folder with "
                f"{' and '.join(splits.required)} is needed"
            )
        return {name: [root] if name in splits.required else [] for name in splits.names}
    here = {name: split_files(splits, root, name) for name in splits.names}
    if config is None and any(here[name] for name in splits.required):
        return _complete(splits, root, here)
    choices = _card_configs(splits, root) or _folder_configs(splits, root)
    chosen = _choose(splits, root, choices, config)
    return _complete(splits, root, here if chosen is None else chosen)


def _choose(
    splits: Splits, root: Path, choices: Mapping[str, Found], config: str | None
) -> Found | None:
    """Return the files of the configuration to read; None if there is nothing to choose from."""
    names = ", ".join(sorted(choices))
    if config is not None:
        if config not in choices:
            held = f"it has {names}" if choices else f"{root} has none"
            raise TaskError(
                f"task {splits.task}: data.config: found {config!r}; no such configuration; {held}"
            )
        return choices[config]
    if len(choices) == 1:
        return next(iter(choices.values()))
    for default in (splits.config, "default"):
        if default is not None and default in choices:
            return choices[default]
    if choices:
        raise TaskError(
            f"task {splits.task}: {root}: has several configurations, {names}; name one, "
            "e.g. data.config: " + min(choices)
        )
    return None


def _complete(splits: Splits, folder: Path, found: Found) -> Found:
    """Return the files; raise `TaskError` if there are none of a split that is required."""
    for name in splits.required:
        if not found.get(name):
            files = sorted(path.name for path in folder.iterdir())
            held = f"{', '.join(files[:8])}{' and more' if len(files) > 8 else ''}"
            raise TaskError(
                f"task {splits.task}: {folder}: no file of the split {name!r}; expected {name}.EXT,"
                f" or {name}-00000-of-00002.EXT and so on, with EXT one of {', '.join(FORMATS)} "
                f"(or .{', .'.join(COMPRESSIONS)} of these), there or in data/; "
                f"it has {held or 'nothing'}"
            )
    return {name: found.get(name, []) for name in splits.names}


def split_files(splits: Splits, folder: Path, split: str) -> list[Path]:
    """Return the files of a split in a folder: one file, or all of its numbered parts in order.

    Raises `TaskError` if a part is missing, or the split is there more than once.
    """
    number = r"(?:-(\d+)(?:-of-(\d+)(?:-[0-9a-f]{8,})?)?)?"
    more = rf"({'|'.join(FORMATS)})(?:\.({'|'.join(COMPRESSIONS)}))?"
    for extensions in (rf"({'|'.join(_FIRST)})()", more):
        form = re.compile(rf"{re.escape(split)}{number}\.{extensions}")
        named = [(path, form.fullmatch(path.name)) for path in folder.iterdir()]
        found = [(path, match) for path, match in named if match and path.is_file()]
        if found:
            break
    found.sort(key=lambda file: (int(file[1][1] or 0), file[0].name))
    names = ", ".join(path.name for path, _ in found)
    if len({(match[1] is None, *match.groups()[1:]) for _, match in found}) > 1:
        raise TaskError(
            f"task {splits.task}: {folder}: the split {split!r} is there more than once: {names}; "
            "keep one"
        )
    numbers = [int(match[1] or 0) for _, match in found]
    if len(set(numbers)) < len(numbers):
        raise TaskError(
            f"task {splits.task}: {folder}: a part of {split!r} is there more than once: {names}; "
            "keep one"
        )
    parts = int(found[0][1][2] or 0) if found else 0
    if parts and numbers != list(range(parts)):
        raise TaskError(
            f"task {splits.task}: {folder}: of {parts} parts of {split!r} found only {names}"
        )
    return [path for path, _ in found]


def _folder_configs(splits: Splits, root: Path, depth: int = _DEPTH) -> dict[str, Found]:
    """Return the files of every configuration below a folder, by the name of its folder."""
    below = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] not in "._")
    by_split = {path.name: _all_files(splits, path) for path in below if path.name in splits.names}
    if any(by_split.get(name) for name in splits.required):
        return {root.name: by_split}
    found: dict[str, Found] = {}
    for path in below:
        here = {name: split_files(splits, path, name) for name in splits.names}
        if any(here[name] for name in splits.required):
            found[path.name] = here
        elif depth > 1:
            found |= _folder_configs(splits, path, depth - 1)
    return found


def _all_files(splits: Splits, folder: Path) -> list[Path]:
    """Return the data files of a split's own folder, in the order of their numbers."""
    files = [path for path in folder.iterdir() if path.is_file() and _is_data(path)]
    if len({"".join(path.suffixes[-1:]) for path in files}) > 1:
        names = ", ".join(sorted(path.name for path in files))
        raise TaskError(
            f"task {splits.task}: {folder}: holds files of several formats: {names}; keep one"
        )
    return sorted(files, key=_by_number)


def _is_data(path: Path) -> bool:
    name = path.name
    for compression in COMPRESSIONS:
        name = name.removesuffix(f".{compression}")
    return name.rpartition(".")[2] in FORMATS and not name.startswith((".", "_"))


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts part-2 before part-10."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", str(path))]


def _card_configs(splits: Splits, root: Path) -> dict[str, Found]:
    """Return the files of every configuration that the data set's card lists, if it lists any.

    The card's metadata is the hub's: `configs`, each with `data_files` by split.
    """
    found: dict[str, Found] = {}
    for config in _card(root):
        listed = _patterns(config.get("data_files"))
        base = root / str(config.get("data_dir") or "")
        files = {name: _matching(splits, base, listed.get(name, ())) for name in splits.names}
        if any(files[name] for name in splits.required):
            found[str(config.get("config_name", "default"))] = files
    return found


def _card(root: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        text = (root / "README.md").read_text(encoding="utf-8", errors="replace")
        block = re.match(r"---\r?\n(.*?)\r?\n---\s*(?:\n|$)", text, re.DOTALL)
        configs = yaml.safe_load(block[1])["configs"] if block else []
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return []
    listed = configs if isinstance(configs, list) else [configs]
    return [each for each in listed if isinstance(each, dict)]


def _patterns(data_files: Any) -> dict[str, tuple[str, ...]]:
    """Return the patterns of each split of a `data_files` entry."""
    if isinstance(data_files, (str, list)):
        entries = [data_files] if isinstance(data_files, str) else data_files
        if all(isinstance(each, str) for each in entries):
            return {"train": tuple(entries)}
        data_files = {
            str(each.get("split")): each.get("path") for each in entries if isinstance(each, dict)
        }
    found: dict[str, tuple[str, ...]] = {}
    for split, paths in (data_files if isinstance(data_files, dict) else {}).items():
        several = paths if isinstance(paths, list) else [paths]
        found[str(split)] = tuple(str(each) for each in several if each)
    return found


def _matching(splits: Splits, base: Path, patterns: Iterable[str]) -> list[Path]:
    """Return the data files that match the patterns, in the order of the patterns."""
    files: dict[Path, None] = {}
    for pattern in patterns:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            raise TaskError(
                f"task {splits.task}: {base}: README.md: found the path {pattern!r}; it must lie "
                "below the folder"
            )
        matched: Sequence[Path] = sorted(base.glob(pattern), key=_by_number)
        files.update(dict.fromkeys(path for path in matched if _is_data(path) and path.is_file()))
    return list(files)
