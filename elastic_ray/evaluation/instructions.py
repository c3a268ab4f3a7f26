"""Instructions: what the evaluation's state machine wants done next.

`state_machine` returns them; `evaluator` carries them out and reports the outcome back by calling
the method of the state machine that each docstring names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..plan import EvaluationRequest


@dataclass(frozen=True, slots=True)
class StartEngine:
    """Start the engines of a group in the slot that it holds, on the weights of `state_id`.

    `ahead`: nothing is ready yet; if the state's checkpoint has been deleted, the start is skipped
    rather than failed. Outcome: `engine_started`, `engine_skipped` or `engine_failed`.
    """

    group: str
    state_id: str
    ahead: bool


@dataclass(frozen=True, slots=True)
class PlaceEngine:
    """Move the replicas of a group to `places` (node id -> number). Outcome: `engine_placed`."""

    group: str
    places: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StopEngine:
    """Stop the engines of a group: it has no work or yields its slot. Outcome: `engine_stopped`."""

    group: str


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Run an evaluation request on the group's engines, or read its recorded answers.

    Outcome: `request_answered` with answers, `request_closed` for the other kinds of requests, or
    `request_failed`.
    """

    group: str
    request: EvaluationRequest


@dataclass(frozen=True, slots=True)
class ScoreAnswers:
    """Score the answers to a request. Outcome: `scoring_done` or `scoring_failed`."""

    request: EvaluationRequest


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """Mark a request closed that needs no scores. It has no outcome to report."""

    request: EvaluationRequest


@dataclass(frozen=True, slots=True)
class FailRequest:
    """Mark a request failed, with the error message. It has no outcome to report."""

    request: EvaluationRequest
    error: str


Instruction: TypeAlias = (
    StartEngine | PlaceEngine | StopEngine | RunRequest | ScoreAnswers | CloseRequest | FailRequest
)
