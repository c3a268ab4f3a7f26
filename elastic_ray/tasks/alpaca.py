"""Alpaca (Taori et al. 2023): 52,000 instructions with answers, for following instructions.

The data has one split and no contrary answers, so only the pool `positive` has examples, and the
sweep must name a scorer. One question in `HELD_OUT` is held out, chosen by a hash. An instruction's
input follows it after a space, as in safe-rlhf.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .dialogue import LONGEST, SETTINGS, Dialogues, Raw, Row
from .layout import Splits
from .source import Table, iter_rows, source_of
from .subsets import hash_below
from .task import check_settings, normalise
from .values import some_text_of, text_of

VERSION = 1
"""Increased when this file reads the data differently."""
SPLITS = Splits("alpaca", ("train",))
HUB, REVISION = "tatsu-lab/alpaca", "dce01c9b08f87459cf36a430d809084718273017"
TYPICAL_TOKENS = 85.0
HELD_OUT = 20


def load(**settings: Any) -> Dialogues:
    """Return the `alpaca` task. Its settings (`data:`) are all optional:

    `path`: a folder with train as Parquet, JSONL or CSV, columns `instruction`, `input`, `output`.
    Without it, `name` and `revision` (a full commit id) of a dataset on the hub.
    """
    check_settings("alpaca", settings, SETTINGS)
    source = source_of(SPLITS, settings, HUB, REVISION)
    return Dialogues("alpaca", VERSION, source, _read, TYPICAL_TOKENS, settings.get(LONGEST))


def _read(tables: Mapping[str, Sequence[Table]]) -> Raw:
    held_out: list[str] = []
    positive: list[Row] = []
    for table in tables["train"]:
        for i, row in iter_rows("alpaca", table, ("instruction", "input", "output")):
            question = some_text_of("alpaca", table, i, "instruction", row["instruction"])
            # `or ""`: a row may lack it.
            extra = text_of("alpaca", table, i, "input", row["input"] or "")
            question = f"{question} {extra}" if extra else question
            answer = text_of("alpaca", table, i, "output", row["output"] or "")
            if hash_below(HELD_OUT, "alpaca", "held out", normalise(question)):
                positive.append((question, answer, 1))
            else:
                held_out.append(question)
    return Raw(held_out, {"positive": positive})
