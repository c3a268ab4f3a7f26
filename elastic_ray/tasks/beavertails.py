"""BeaverTails (PKU-Alignment): safe answers are positive, unsafe ones negative.

A row holds a question, one answer and whether the answer is safe; `category` is not read. The data
set has two sizes, 330k and 30k, each with a train and a test split. Of 330k, several people judged
each answer: an answer that they judge differently is left out, and so are its repetitions. Models
are trained on the train split. The questions of the test split are divided by a hash: one half
provides the scorer's labelled dialogues, the other the held-out questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from .dialogue import LONGEST, SETTINGS, Dialogues, Raw, Row, split_by_safety
from .layout import Splits
from .source import Table, iter_rows, source_of
from .task import TaskError, check_settings
from .values import some_text_of, text_of, truth_of

VERSION = 1
"""Increased when this file reads the data differently."""
SIZES = ("330k", "30k")
"""Values of the setting `split`; the first one is the default."""
HUB, REVISION = "PKU-Alignment/BeaverTails", "8401fe609d288129cc684a9b3be6a93e41cfe678"
TYPICAL_TOKENS = 95.0
COLUMNS = ("prompt", "response", "is_safe")


def load(**settings: Any) -> Dialogues:
    """Return the `beavertails` task. Its settings (`data:`) are all optional:

    `split`: 330k (default) or 30k. `path`: a folder with `330k_train` and `330k_test` (or `30k_`)
    as Parquet, JSONL or CSV, columns `prompt`, `response`, `is_safe`, or a copy of the hub's files
    with its README.md. Without it, `name` and `revision` (a full commit id) of a dataset on the
    hub.
    """
    check_settings("beavertails", settings, (*SETTINGS, "split"))
    size = settings.pop("split", SIZES[0])
    if size not in SIZES:
        raise TaskError(
            f"task beavertails: data.split: found {size!r}; allowed: {', '.join(SIZES)}"
        )
    splits = Splits("beavertails", (f"{size}_train", f"{size}_test"))
    source = source_of(splits, settings, HUB, REVISION)
    read, longest = READERS[size], settings.get(LONGEST)
    return Dialogues("beavertails", VERSION, source, read, TYPICAL_TOKENS, longest, size)


def _read(size: str, tables: Mapping[str, Sequence[Table]]) -> Raw:
    train, test = (tables[f"{size}_{part}"] for part in ("train", "test"))
    return split_by_safety("beavertails", _rows, train, test)


READERS = {size: partial(_read, size) for size in SIZES}
"""One reader per size, made once: the cache of split data is keyed by the reader."""


def _rows(table: Table) -> Iterator[Row]:
    for i, row in iter_rows("beavertails", table, COLUMNS):
        question = some_text_of("beavertails", table, i, "prompt", row["prompt"])
        answer = text_of("beavertails", table, i, "response", row["response"])
        yield question, answer, int(truth_of("beavertails", table, i, "is_safe", row["is_safe"]))
