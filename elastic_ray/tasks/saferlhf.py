"""PKU-SafeRLHF (PKU-Alignment): safe answers are positive, unsafe ones negative.

A row holds a question and two answers, each labelled safe or unsafe. The first version of the data
set and the current one, which adds sources, harm categories and severities, use the same names for
these columns; other columns are not read. Models are trained on the train split. The questions of
the test split are divided by a hash: one half provides the scorer's labelled dialogues, the other
the held-out questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .dialogue import LONGEST, SETTINGS, Dialogues, Raw, Row, split_by_safety
from .layout import Splits
from .source import Table, iter_rows, source_of
from .task import check_settings
from .values import some_text_of, text_of, truth_of

VERSION = 1
"""Increased when this file reads the data differently."""
SPLITS = Splits("saferlhf", ("train", "test"))
HUB, REVISION = "PKU-Alignment/PKU-SafeRLHF", "9421ffafec3fa40a1f1a7d567b4d525079477ecb"
TYPICAL_TOKENS = 120.0
ANSWERS = ("0", "1")


def load(**settings: Any) -> Dialogues:
    """Return the `saferlhf` task. Its settings (`data:`) are all optional:

    `path`: a folder with train and test as Parquet, JSONL or CSV, columns `prompt`, `response_0`,
    `response_1`, `is_response_0_safe`, `is_response_1_safe`. Without it, `name` and `revision` (a
    full commit id) of a dataset on the hub.
    """
    check_settings("saferlhf", settings, SETTINGS)
    source = source_of(SPLITS, settings, HUB, REVISION)
    return Dialogues("saferlhf", VERSION, source, _read, TYPICAL_TOKENS, settings.get(LONGEST))


def _read(tables: Mapping[str, Sequence[Table]]) -> Raw:
    return split_by_safety("saferlhf", _rows, tables["train"], tables["test"])


def _rows(table: Table) -> Iterator[Row]:
    """Yield two rows, one for each answer, of every row of the table."""
    names = ["prompt"]
    for k in ANSWERS:
        names += [f"response_{k}", f"is_response_{k}_safe"]
    for i, row in iter_rows("saferlhf", table, names):
        question = some_text_of("saferlhf", table, i, "prompt", row["prompt"])
        for k in ANSWERS:
            answer = text_of("saferlhf", table, i, f"response_{k}", row[f"response_{k}"])
            column = f"is_response_{k}_safe"
            safe = truth_of("saferlhf", table, i, column, row[column])
            yield question, answer, int(safe)
