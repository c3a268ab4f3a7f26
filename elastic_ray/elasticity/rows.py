"""Converts rows of any supported form into columns, and groups the scores of a state by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Rows: TypeAlias = Any
"""An iterable of row mappings, a mapping of columns, or an Arrow table (`to_pydict`)."""

Point: TypeAlias = tuple[Ints, Floats]
"""Prompt indices in ascending order, and the mean over samples for each."""


class ElasticityError(ValueError):
    """The rows or arguments are not valid; the message names the column or argument."""


def columns(
    rows: Rows, needs: Sequence[str], sweep: str | None, nullable: Sequence[str] = ()
) -> Mapping[str, Sequence[Any]]:
    """Return the columns by name; optional columns that are absent are filled with None.

    Columns in `needs` must have a value in every row. Columns in `nullable` must exist. Raises
    `ElasticityError` otherwise.
    """
    if hasattr(rows, "to_pydict"):
        table = dict(rows.to_pydict())
    elif isinstance(rows, Mapping):
        table = {name: v.tolist() if hasattr(v, "tolist") else v for name, v in rows.items()}
    else:
        rows = list(rows)
        names = dict.fromkeys(name for row in rows for name in row)
        table = {name: [row.get(name) for row in rows] for name in names}
    count = len(next(iter(table.values()), ()))
    if count == 0:
        table = {name: () for name in (*needs, *nullable)}
    for name in (*needs, *nullable):
        if name not in table:
            raise ElasticityError(f"the rows have no column {name!r}; they have {', '.join(table)}")
        if name in needs and any(value is None for value in table[name]):
            raise ElasticityError(f"column {name!r} has a row without a value")
    if "sweep" not in table:
        if sweep is None and count:
            raise ElasticityError("the rows have no column 'sweep'; give sweep=")
        table["sweep"] = [sweep] * count
    for name in ("pretrain", "parameters", "pretrain_tokens", "scorer"):
        table.setdefault(name, [None] * count)
    return table


def by_prompt(
    where: str, table: Mapping[str, Sequence[Any]], found: Sequence[int], column: str = "score"
) -> Point:
    """Return the values of the rows `found` of a table by prompt, samples averaged.

    Raises `ElasticityError`, which begins with `where`, for a value that is not finite and for a
    duplicate (prompt, sample).
    """
    scores = np.array([table[column][i] for i in found], dtype=np.float64)
    prompts = np.array([table["prompt_index"][i] for i in found], dtype=np.int64)
    if not np.isfinite(scores).all():
        i = int(np.argmin(np.isfinite(scores)))
        raise ElasticityError(f"{where}, prompt {prompts[i]}: the {column} is {scores[i]}")
    samples = table.get("sample", ())
    answers = [(int(p), samples[i] if samples else 0) for p, i in zip(prompts, found, strict=True)]
    if len(set(answers)) < len(answers):
        twice = next(a for a in answers if answers.count(a) > 1)
        raise ElasticityError(
            f"{where}: prompt {twice[0]}, sample {twice[1]} has its {column} twice"
        )
    # Sorted by prompt, then sample, so that sums do not depend on the order of the rows.
    order = sorted(range(len(answers)), key=answers.__getitem__)
    kept, which = np.unique(prompts[order], return_inverse=True)
    return kept, np.bincount(which, weights=scores[order]) / np.bincount(which)


def on_prompts(prompts: Ints, point: Point) -> Floats:
    """Return the values of `point` on `prompts`, a subset of its prompts."""
    return point[1][np.searchsorted(point[0], prompts)]
