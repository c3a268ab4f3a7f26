"""Rows of the `states` table: the one place that decides which columns a recorded state has.

A state is recorded by the worker that trained it, by the job that prepared a start state, or by
the driver that gave it up; all of them build their row here and pass it to `Results.write`.
Columns that are None are null in the table.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SUMMARY_COLUMNS = (
    "kind",
    "status",
    "error",
    "parent_id",
    "checkpoint",
    "checksum",
    "parameters",
    "tokens",
)
"""The columns that `Results.states` reads by default."""


@dataclass(frozen=True)
class PlannedState:
    """The columns that the plan knows before the state is computed.

    `kind` is the kind of the last stage, or "start"; `examples` counts the examples of that stage;
    `lineage` is the whole recipe as JSON values; `sweep` is the sweep that computes the state.
    """

    state_id: str
    parent_id: str | None
    kind: str
    examples: int
    lineage: Mapping[str, Any] | None
    sweep: str


@dataclass(frozen=True)
class SavedCheckpoint:
    """The columns that describe a checkpoint: its location, bytes of its weights, and checksum."""

    checkpoint: str
    checkpoint_bytes: int
    checksum: str


@dataclass(frozen=True)
class Training:
    """The columns of a computed state that are measured: parameters, tokens, seconds, losses.

    `tokens` counts the tokens of the last stage, `pretrain_tokens` those of all `pretrain` stages;
    `losses` holds one value per optimiser step. `started_at` and `finished_at` carry a time zone.
    """

    parameters: int
    tokens: int
    pretrain_tokens: int
    seconds: float
    started_at: dt.datetime
    finished_at: dt.datetime
    losses: Sequence[float] | None = None
    workers: int | None = None
    zero_stage: int | None = None


@dataclass(frozen=True)
class Provenance:
    """The columns that say how a state was made (docs/concepts.md#rule-6)."""

    git_revision: str | None = None
    versions: Mapping[str, str] | None = None
    hardware: Mapping[str, Any] | None = None
    trial: str | None = None


def done_row(
    state: PlannedState, saved: SavedCheckpoint, training: Training, provenance: Provenance
) -> dict[str, Any]:
    """Return the row of a state whose checkpoint is saved."""
    return {
        **vars(state),
        **vars(saved),
        **vars(training),
        **vars(provenance),
        "status": "done",
        "final_loss": training.losses[-1] if training.losses else None,
    }


def failed_row(
    state: PlannedState, error: str, provenance: Provenance | None = None
) -> dict[str, Any]:
    """Return the row of a state that could not be computed, with the error message."""
    row = {**vars(state), "status": "failed", "error": error}
    return row if provenance is None else {**row, **vars(provenance)}
