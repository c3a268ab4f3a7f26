"""Alpaca (Taori et al. 2023): 52,000 instructions with answers, for following instructions.

The data has one split and no contrary answers, so only `positive` holds examples, and a scorer has
to be named. One question in `HELD_OUT`, by a hash, is held out. An instruction's input follows it
after a space, as safe-rlhf has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .dialogue import Dialogues, Raw, Row, question_of, text_of
from .source import SETTINGS, Splits, Table, columns, source_of
from .subsets import below
from .task import check_settings, normal

VERSION = 1
"""Raised when the reading below changes."""
SPLITS = Splits("alpaca", ("train",))
HUB, REVISION = "tatsu-lab/alpaca", "dce01c9b08f87459cf36a430d809084718273017"
TYPICAL_TOKENS = 85.0
HELD_OUT = 20


def load(**settings: Any) -> Dialogues:
    """The `alpaca` task. Settings (`data:`), all optional:

    `path`: a folder with train as Parquet, JSONL or CSV, columns `instruction`, `input`, `output`.
    Without it, `name` and `revision` (a full commit id) of a dataset on the hub.
    """
    check_settings("alpaca", settings, SETTINGS)
    source = source_of(SPLITS, settings, HUB, REVISION)
    return Dialogues("alpaca", VERSION, source, _read, TYPICAL_TOKENS)


def _read(tables: Mapping[str, Sequence[Table]]) -> Raw:
    held_out: list[str] = []
    taught: list[Row] = []
    for table in tables["train"]:
        for i, row in columns("alpaca", table, ("instruction", "input", "output")):
            question = question_of("alpaca", table, i, "instruction", row["instruction"])
            more = text_of("alpaca", table, i, "input", row["input"] or "")  # CSV has no empty text
            question = f"{question} {more}" if more else question
            answer = text_of("alpaca", table, i, "output", row["output"] or "")
            if below(HELD_OUT, "alpaca", "held out", normal(question)):
                taught.append((question, answer, 1))
            else:
                held_out.append(question)
    return Raw(held_out, {"positive": taught})
