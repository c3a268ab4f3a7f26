"""A table of the report, as rows of plain values; `table_files` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table. Each row holds a string, number, None or `Estimate` per column of `heads`."""

    name: str
    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
