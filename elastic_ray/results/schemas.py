"""The declared tables: every column's type, every table's key, and how its files are laid out.

A table's rows are stored in one file per *file key*: the columns in `partitions` (also folder
names, `scorer=sentiment/`) and one more, the state or the sweep. Folder columns are repeated inside
the file, so that a file can be read on its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import pyarrow as pa

from .errors import ResultsError
from .tables import Table, table_schema

_TEXT, _INT, _LONG, _REAL = pa.string(), pa.int32(), pa.int64(), pa.float64()
_TIME = pa.timestamp("us", tz="UTC")

STATES = Table(
    "states",
    table_schema(
        {"state_id": _TEXT, "kind": _TEXT, "status": _TEXT},
        {
            "parent_id": _TEXT,
            "examples": _LONG,
            "lineage": _TEXT,
            "error": _TEXT,
            "checkpoint": _TEXT,
            "checkpoint_bytes": _LONG,
            "checksum": _TEXT,
            "parameters": _LONG,
            "tokens": _LONG,
            "pretrain_tokens": _LONG,
            "losses": pa.list_(pa.float32()),
            "final_loss": _REAL,
            "seconds": _REAL,
            "workers": _INT,
            "zero_stage": _INT,
            "sweep": _TEXT,
            "trial": _TEXT,
            "versions": _TEXT,
            "hardware": _TEXT,
            "git_revision": _TEXT,
            "started_at": _TIME,
            "finished_at": _TIME,
        },
    ),
    key=("state_id",),
    json=("lineage", "versions", "hardware"),
    choices={"status": ("done", "failed")},
)

CELLS = Table(
    "cells",
    table_schema(
        {
            "sweep": _TEXT,
            "model": _TEXT,
            "task": _TEXT,
            "positive": _LONG,
            "negative": _LONG,
            "seed": _LONG,
            "state_id": _TEXT,
            "probe_id": _TEXT,
            "scorer": _TEXT,
            "status": _TEXT,
        },
        {"pretrain": _LONG, "parameters": _LONG, "error": _TEXT},
    ),
    key=("sweep", "model", "task", "pretrain", "positive", "negative", "seed"),
    per="sweep",
    choices={"status": ("pending", "done", "failed")},
)

RESPONSES = Table(
    "responses",
    table_schema(
        {"state_id": _TEXT, "probe_id": _TEXT, "prompt_index": _INT, "sample": _INT},
        {
            "prompt": _TEXT,
            "response": _TEXT,
            "tokens": _INT,
            "finish_reason": _TEXT,
            "held_state": _TEXT,
            "seed": _LONG,
            "engine": _TEXT,
        },
    ),
    key=("state_id", "probe_id", "prompt_index", "sample"),
    partitions=("probe_id",),
)

SCORES = Table(
    "scores",
    table_schema(
        {
            "state_id": _TEXT,
            "probe_id": _TEXT,
            "prompt_index": _INT,
            "sample": _INT,
            "scorer": _TEXT,
            "score": _REAL,
        },
        {"probability": _REAL, "scorer_accuracy": _REAL},
    ),
    key=("state_id", "probe_id", "prompt_index", "sample", "scorer"),
    partitions=("probe_id", "scorer"),
    finite=("score", "probability", "scorer_accuracy"),
)

DISTANCES = Table(
    "distances",
    table_schema(
        {
            "state_id": _TEXT,
            "reference_id": _TEXT,
            "probe_id": _TEXT,
            "prompt_index": _INT,
            "sample": _INT,
            "metric": _TEXT,
        },
        {"value": _REAL, "tokens": _LONG},
    ),
    key=("state_id", "reference_id", "probe_id", "prompt_index", "sample", "metric"),
    partitions=("reference_id", "probe_id"),
    finite=("value",),
)

CODE_LENGTHS = Table(
    "code_lengths",
    table_schema(
        {"state_id": _TEXT, "corpus": _TEXT, "example": _LONG},
        {"bits": _REAL, "tokens": _LONG, "bytes": _LONG},
    ),
    key=("state_id", "corpus", "example"),
    partitions=("corpus",),
    finite=("bits",),
)

QUANTITIES = (
    "base",
    "aligned",
    "gap",
    "reversion_size",
    "reversion_share",
    "half_life",
    "half_life_share",
    "early_rate",
    "late_rate",
    "elasticity_index",
)
"""Columns of `indices` that hold what `elasticity` measures of a curve, each with an interval
(`_low`, `_high`), an interval over prompts alone (`_same_runs_low`, `_same_runs_high`) and each
seed's own value (`_by_seed`). Equal to `elasticity.QUANTITIES`: neither package may import the
other, and a test compares the two."""

_ENDS = ("", "_low", "_high", "_same_runs_low", "_same_runs_high")
_INTERVALS = (
    *(f"{q}{end}" for q in QUANTITIES for end in _ENDS),
    *(f"{q}_corrected{end}" for q in ("base", "aligned", "gap") for end in _ENDS[:3]),
)

INDICES = Table(
    "indices",
    table_schema(
        {"sweep": _TEXT, "model": _TEXT, "task": _TEXT, "positive": _LONG},
        {
            "pretrain": _LONG,
            "parameters": _LONG,
            "pretrain_tokens": _LONG,
            "family": _TEXT,
            "scorer": _TEXT,
            "seeds": _INT,
            "prompts": _INT,
            "late_window": _REAL,
            **dict.fromkeys(_INTERVALS, _REAL),
            **{f"{q}_by_seed": pa.list_(_REAL) for q in QUANTITIES},
            "note": _TEXT,
        },
    ),
    key=("sweep", "model", "task", "pretrain", "positive"),
    per="sweep",
    finite=_INTERVALS,
)

CONCLUSIONS = Table(
    "conclusions",
    table_schema(
        {"sweep": _TEXT, "place": _INT, "question": _TEXT, "answer": _TEXT},
        {"about": _TEXT, "strength": _TEXT},
    ),
    key=("sweep", "place"),
    per="sweep",
)

SWEEPS = Table(
    "sweeps",
    table_schema({"sweep": _TEXT, "spec": _TEXT}, {"recorded_at": _TIME}),
    key=("sweep",),
    per="sweep",
    json=("spec",),
)

RUNS = Table(
    "runs",
    table_schema(
        {"sweep": _TEXT, "run": _TEXT, "cpu_hours": _REAL, "gpu_hours": _REAL},
        {"host": _TEXT, "started_at": _TIME, "recorded_at": _TIME},
    ),
    key=("sweep", "run"),
    per="sweep",
    finite=("cpu_hours", "gpu_hours"),
)

CORPORA = Table(
    "corpora",
    table_schema({"sweep": _TEXT, "task": _TEXT, "kind": _TEXT, "corpus": _TEXT}, {}),
    key=("sweep", "task", "kind"),
    per="sweep",
)

LESSONS = Table(
    "lessons",
    table_schema(
        {
            "sweep": _TEXT,
            "model": _TEXT,
            "task": _TEXT,
            "k": _INT,
            "l": _INT,
            "direction": _TEXT,
            "seed": _LONG,
            "teacher_positive": _LONG,
            "student_positive": _LONG,
            "teacher_id": _TEXT,
            "student_id": _TEXT,
            "state_id": _TEXT,
            "probe_id": _TEXT,
            "status": _TEXT,
        },
        {"pretrain": _LONG, "parameters": _LONG, "error": _TEXT},
    ),
    key=("sweep", "model", "task", "pretrain", "k", "l", "direction", "seed"),
    per="sweep",
    choices={"status": ("pending", "done", "failed"), "direction": ("inverse", "forward")},
)

COMPARED = ("inverse", "forward", "difference")
"""Columns of `paths` that hold what `elasticity` measures of a pair of slices and a metric, each
with an interval (`_low`, `_high`). Equal to `elasticity.COMPARED`, which a test checks."""

_COMPARED = tuple(f"{q}{end}" for q in COMPARED for end in ("", "_low", "_high"))

PATHS = Table(
    "paths",
    table_schema(
        {
            "sweep": _TEXT,
            "model": _TEXT,
            "task": _TEXT,
            "k": _INT,
            "l": _INT,
            "metric": _TEXT,
        },
        {
            "pretrain": _LONG,
            "parameters": _LONG,
            **dict.fromkeys(_COMPARED, _REAL),
            "p_value": _REAL,
            "prompts": _INT,
            "seeds": _INT,
            "seeds_inverse_nearer": _INT,
            "note": _TEXT,
        },
    ),
    key=("sweep", "model", "task", "pretrain", "k", "l", "metric"),
    per="sweep",
    finite=(*_COMPARED, "p_value"),
)

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        STATES,
        CELLS,
        RESPONSES,
        SCORES,
        DISTANCES,
        CODE_LENGTHS,
        INDICES,
        CONCLUSIONS,
        SWEEPS,
        RUNS,
        CORPORA,
        LESSONS,
        PATHS,
    )
}


def table_named(name: str) -> Table:
    """Return the declared table; an unknown name raises `ResultsError` with the nearest one."""
    if name not in TABLES:
        raise ResultsError(f"no table {name!r}{nearest(name, TABLES)}; tables: {', '.join(TABLES)}")
    return TABLES[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean ...?)" with the most similar known name, or an empty text."""
    match = get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""
