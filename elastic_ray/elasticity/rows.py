"""Rows as they come, made into columns, and what was measured of a state by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Rows: TypeAlias = Any
"""Mappings by row, a mapping of columns, or what has `to_pydict` (an Arrow table)."""

Point: TypeAlias = tuple[Ints, Floats]
"""Prompts, ascending, and the mean over samples on each."""


class ElasticityError(ValueError):
    """The rows, or what was asked of them, make no curve; the message says which."""


def columns(
    rows: Rows, needs: Sequence[str], sweep: str | None, nullable: Sequence[str] = ()
) -> Mapping[str, Sequence[Any]]:
    """The columns by name, those that may be absent filled with None.

    Those of `needs` have a value in every row, those of `nullable` are there at least.
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
    """The rows `found` of a table by prompt; `ElasticityError`, with `where`, for what is no number
    and for an answer that is there twice."""
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
    # By prompt, then sample, so that sums do not depend on the order of the rows.
    order = sorted(range(len(answers)), key=answers.__getitem__)
    kept, which = np.unique(prompts[order], return_inverse=True)
    return kept, np.bincount(which, weights=scores[order]) / np.bincount(which)


def on_prompts(prompts: Ints, point: Point) -> Floats:
    """The values on these of its prompts."""
    return point[1][np.searchsorted(point[0], prompts)]
