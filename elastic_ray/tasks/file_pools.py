"""The pools of a task that is written in the sweep file (`data.pools`): settings, source, rows.

A pool names a data set (a folder or file, or a commit of a hub data set), which of its rows to
take, and the SQL expressions of prompt, answer and label. What is wrong raises `TaskError` with the
setting, what was found, and a row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .layout import Splits
from .rows import FileProblem
from .source import RELATIVE, Source
from .sql_rows import ExpressionError, Rows, evaluate
from .task import TaskError, UnreachableData

SETTINGS = ("path", "hub", "revision", "config", "split", "where", "columns")
"""Settings of a pool."""
SPLIT = "train"
"""The split that is read by default."""
COLUMNS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pretrain": (("response",), ("prompt",)),
    "positive": (("response",), ("prompt",)),
    "negative": (("response",), ("prompt",)),
    "scorer": (("response", "label"), ("prompt",)),
    "prompts": (("prompt",), ()),
}
"""Pools, each with the columns that it needs and those that it may have."""
REQUIRED = ("positive", "prompts")
"""Pools that every task has; the others may be missing."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a pool: question (may be empty), answer (empty for `prompts`), label or None."""

    prompt: str
    response: str
    label: int | None


@dataclass(frozen=True, slots=True)
class Pool:
    """Where the rows of one pool come from."""

    task: str
    name: str
    source: Source
    split: str
    where: str | None
    columns: tuple[tuple[str, str], ...]
    """Names of columns with their SQL expressions."""

    @property
    def sql(self) -> dict[str, str]:
        """The SQL expressions by the name of the column."""
        return dict(self.columns)

    def identity(self) -> dict[str, Any]:
        """Return what identifies the rows: the data's content or commit, and the expressions."""
        try:
            data = self.source.identity()
        except TaskError as e:
            raise _at(self.task, f"data.pools.{self.name}", e) from None
        split = {"split": self.split} if self.source.path is None else {}
        return {"data": data, **split, "where": self.where, "columns": self.sql}

    def rows(self) -> list[Row]:
        """Return the rows; raises `TaskError`, or `UnreachableData` for the hub."""
        field = f"data.pools.{self.name}"
        try:
            tables = self.source.tables()[self.split]
        except TaskError as e:
            raise _at(self.task, field, e) from None
        condition = [self.where] if self.where is not None else []
        try:
            rows = Rows(tables, [*self.sql.values(), *condition])
            found = list(evaluate(rows, self.where, self.sql))
        except FileProblem as e:
            raise TaskError(f"task {self.task}: {field}: {e}") from None
        except ExpressionError as e:
            within = "where" if e.field == "where" else f"columns.{e.field}"
            sql = self.where if e.field == "where" else self.sql[e.field]
            raise TaskError(f"task {self.task}: {field}.{within}: found {sql!r}; {e}") from None
        if not found:
            many = f"none of {rows.count:,} rows" if rows.count else "no row"
            raise TaskError(
                f"task {self.task}: {field}.where: found {self.where!r}; it keeps {many}; an "
                f"example row: {rows.example()}"
            )
        return [self._row(each.where, each.row, each.values) for each in found]

    def _row(self, where: str, number: int, values: Mapping[str, Any]) -> Row:
        def text(name: str) -> str:
            value = values.get(name, "")
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                raise self._unusable(where, number, name, values, "a text is needed")
            if name in self.sql and not str(value).strip():
                raise self._unusable(where, number, name, values, "a text is needed")
            return str(value).strip()

        label = values.get("label")
        if "label" in self.sql:
            if label not in (0, 1):
                allowed = "allowed: 0 and 1, false and true"
                raise self._unusable(where, number, "label", values, allowed)
            label = int(label)
        return Row(text("prompt"), text("response"), label)

    def _unusable(
        self, where: str, number: int, name: str, values: Mapping[str, Any], needed: str
    ) -> TaskError:
        shown = {
            key: value[:80] if isinstance(value, str) else value for key, value in values.items()
        }
        return TaskError(
            f"task {self.task}: data.pools.{self.name}.columns.{name}: found "
            f"{self.sql[name]!r}; {where}: row {number}: it gives {values[name]!r}; {needed} "
            f"(leave such rows out with where); the row gives {shown}"
        )


def read_pools(task: str, given: Any) -> dict[str, Pool]:
    """Return the pools of `data.pools`, by name; raise `TaskError` for a wrong setting."""
    if not isinstance(given, Mapping):
        raise TaskError(f"task {task}: data.pools: found {given!r}; a mapping of pools is needed")
    _known(task, "data.pools", given, tuple(COLUMNS))
    for name in REQUIRED:
        if name not in given:
            raise TaskError(f"task {task}: data.pools.{name}: missing; every task needs it")
    return {name: _pool(task, name, given[name]) for name in COLUMNS if name in given}


def _pool(task: str, name: str, given: Any) -> Pool:
    field = f"data.pools.{name}"
    if not isinstance(given, Mapping):
        raise TaskError(f"task {task}: {field}: found {given!r}; a mapping is needed")
    _known(task, field, given, SETTINGS)
    for setting in ("config", "split", "where"):
        value = given.get(setting)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise TaskError(f"task {task}: {field}.{setting}: found {value!r}; a text is needed")
    columns = given.get("columns")
    needed, optional = COLUMNS[name]
    if not isinstance(columns, Mapping):
        raise TaskError(
            f"task {task}: {field}.columns: found {columns!r}; SQL expressions by name are needed: "
            f"{', '.join(needed)}"
            + (f"; {', '.join(optional)} if there is one" if optional else "")
        )
    _known(task, f"{field}.columns", columns, (*needed, *optional))
    for column in needed:
        if column not in columns:
            raise TaskError(f"task {task}: {field}.columns.{column}: missing; an SQL expression")
    for column, sql in columns.items():
        if not isinstance(sql, str) or not sql.strip():
            raise TaskError(
                f"task {task}: {field}.columns.{column}: found {sql!r}; an SQL expression is needed"
            )
    split = given.get("split", SPLIT)
    source = _source(task, field, given, split)
    ordered = tuple((each, columns[each]) for each in (*needed, *optional) if each in columns)
    return Pool(task, name, source, split, given.get("where"), ordered)


def _source(task: str, field: str, given: Mapping[str, Any], split: str) -> Source:
    path, hub, revision = (given.get(key) for key in ("path", "hub", "revision"))
    if (path is None) == (hub is None):
        raise TaskError(f"task {task}: {field}: give path, or hub and revision")
    if path is not None and revision is not None:
        raise TaskError(f"task {task}: {field}.revision: is for hub; a path's content is hashed")
    if path is not None and (not isinstance(path, str) or not Path(path).exists()):
        starts = "" if str(path)[:1] == "/" else RELATIVE
        raise TaskError(f"task {task}: {field}.path: found {path!r}; no such file{starts}")
    if hub is not None and (not isinstance(hub, str) or not hub):
        raise TaskError(f"task {task}: {field}.hub: found {hub!r}; a dataset's name, OWNER/NAME")
    if hub is not None and (not isinstance(revision, str) or not _COMMIT.fullmatch(revision)):
        raise TaskError(
            f"task {task}: {field}.revision: found {revision!r} for {hub}; a full commit id is "
            "needed (40 hexadecimal digits): branches and tags move"
        )
    return Source(Splits(task, (split,)), path, (hub or "", revision or ""), given.get("config"))


def _known(task: str, field: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in given:
        if key not in known:
            similar = get_close_matches(str(key), known, n=1)
            suggestion = f" (did you mean {similar[0]!r}?)" if similar else ""
            raise TaskError(
                f"task {task}: {field}.{key}: unknown{suggestion}; allowed: {', '.join(known)}"
            )


def _at(task: str, field: str, error: TaskError) -> TaskError:
    """Return a source's error with the pool's field; its advice is for tasks with one source."""
    problem = str(error).removeprefix(f"task {task}: ").partition("; or give data.path")[0]
    if isinstance(error, UnreachableData):
        return UnreachableData(
            f"task {task}: {field}.hub: {problem}; or give {field}.path, a local folder"
        )
    for setting in ("data.path", "data.config"):
        if problem.startswith(f"{setting}: "):
            setting = setting.removeprefix("data.")
            return TaskError(f"task {task}: {field}.{setting}: {problem.partition(': ')[2]}")
    return TaskError(f"task {task}: {field}: {problem}")
