"""TruthfulQA (Lin et al. 2022), configuration `generation`: 817 questions, each with answers.

Correct answers are positive, incorrect ones negative. The data has one split; one question in
`HELD_OUT` is held out, chosen by a hash. No texts are left to train a scorer on, so the sweep must
name one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .dialogue import LONGEST, SETTINGS, Dialogues, Raw, Row
from .layout import Splits
from .source import Table, iter_rows, source_of
from .subsets import hash_below
from .task import check_settings, normalise
from .values import problem, some_text_of, text_of

VERSION = 1
"""Increased when this file reads the data differently."""
SPLITS = Splits("truthfulqa", ("validation",), config="generation")
HUB, REVISION = "truthfulqa/truthful_qa", "741b8276f2d1982aa3d5b832d3ee81ed3b896490"
TYPICAL_TOKENS = 40.0
HELD_OUT = 4
COLUMNS = ("question", "best_answer", "correct_answers", "incorrect_answers")


def load(**settings: Any) -> Dialogues:
    """Return the `truthfulqa` task. Its settings (`data:`) are all optional:

    `path`: a folder with validation as Parquet or JSONL, columns `question`, `best_answer`, and
    `correct_answers` and `incorrect_answers`, lists of texts. Without it, `name` and `revision` (a
    full commit id) of a dataset on the hub.
    """
    check_settings("truthfulqa", settings, SETTINGS)
    source = source_of(SPLITS, settings, HUB, REVISION)
    return Dialogues("truthfulqa", VERSION, source, _read, TYPICAL_TOKENS, settings.get(LONGEST))


def _read(tables: Mapping[str, Sequence[Table]]) -> Raw:
    held_out: list[str] = []
    positive: list[Row] = []
    negative: list[Row] = []
    for table in tables["validation"]:
        for i, row in iter_rows("truthfulqa", table, COLUMNS):
            question = some_text_of("truthfulqa", table, i, "question", row["question"])
            best = text_of("truthfulqa", table, i, "best_answer", row["best_answer"])
            correct = [best, *_answers(table, i, "correct_answers", row["correct_answers"])]
            incorrect = _answers(table, i, "incorrect_answers", row["incorrect_answers"])
            if hash_below(HELD_OUT, "truthfulqa", "held out", normalise(question)):
                positive += [(question, answer, 1) for answer in correct]
                negative += [(question, answer, 0) for answer in incorrect]
            else:
                held_out.append(question)
    return Raw(held_out, {"positive": positive, "negative": negative})


def _answers(table: Table, row: int, column: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise problem("truthfulqa", table, row, column, value, "a list of texts is needed")
    return [text_of("truthfulqa", table, row, column, each) for each in value]
