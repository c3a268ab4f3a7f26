"""PKU-SafeRLHF (PKU-Alignment): safe answers are positive, unsafe ones negative.

A row holds a question and two answers, each judged safe or not. The first generation of the data
set and the present one, which adds sources, harm categories and severities, name these alike;
further columns are not read. The train split is taught; the test split's questions are parted in
two by a hash: one half gives the scorer's labelled dialogues, the other the held-out questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .dialogue import Dialogues, Raw, Row, question_of, text_of
from .source import SETTINGS, Splits, Table, columns, source_of
from .subsets import below
from .task import TaskError, check_settings, normal

VERSION = 1
"""Raised when the reading below changes."""
SPLITS = Splits("saferlhf", ("train", "test"))
HUB, REVISION = "PKU-Alignment/PKU-SafeRLHF", "9421ffafec3fa40a1f1a7d567b4d525079477ecb"
TYPICAL_TOKENS = 120.0
ANSWERS = ("0", "1")


def load(**settings: Any) -> Dialogues:
    """The `saferlhf` task. Settings (`data:`), all optional:

    `path`: a folder with train and test as Parquet, JSONL or CSV, columns `prompt`, `response_0`,
    `response_1`, `is_response_0_safe`, `is_response_1_safe`. Without it, `name` and `revision` (a
    full commit id) of a dataset on the hub.
    """
    check_settings("saferlhf", settings, SETTINGS)
    source = source_of(SPLITS, settings, HUB, REVISION)
    return Dialogues("saferlhf", VERSION, source, _read, TYPICAL_TOKENS)


def _read(tables: Mapping[str, Sequence[Table]]) -> Raw:
    taught = [row for table in tables["train"] for row in _rows(table)]
    held_out, judged = [], []
    for table in tables["test"]:
        for row in _rows(table):
            if below(2, "saferlhf", "half", normal(row[0])):
                judged.append(row)
            else:
                held_out.append(row[0])
    positive = [row for row in taught if row[2] == 1]
    negative = [row for row in taught if row[2] == 0]
    return Raw(held_out, {"positive": positive, "negative": negative, "scorer": judged})


def _rows(table: Table) -> Iterator[Row]:
    names = ["prompt"]
    for k in ANSWERS:
        names += [f"response_{k}", f"is_response_{k}_safe"]
    for i, row in columns("saferlhf", table, names):
        question = question_of("saferlhf", table, i, "prompt", row["prompt"])
        for k in ANSWERS:
            answer = text_of("saferlhf", table, i, f"response_{k}", row[f"response_{k}"])
            safe = row[f"is_response_{k}_safe"]
            if not isinstance(safe, bool):
                raise TaskError(
                    f"task saferlhf: {table.where}: row {i}: is_response_{k}_safe: found {safe!r}; "
                    "allowed: true and false"
                )
            yield question, answer, int(safe)
