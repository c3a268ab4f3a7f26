"""From a spec to a plan: model states, training ladders, probes and trials, each with its id."""

from __future__ import annotations

from .graph import (
    ANSWERS,
    CODE_LENGTH,
    DISTANCES,
    QUERIES,
    Dependency,
    EngineGroup,
    EvaluationRequest,
    Ladder,
    Lesson,
    Plan,
    Point,
    Rung,
    pairs_of,
)
from .identity import Answers, Start, canonical
from .inputs import check_models, find, settings_of
from .model_size import UNKNOWN_PARAMETERS, parameters_in_name
from .planner import plan_sweep
from .task_info import TaskInfo
from .trials import STARTUP_SECONDS, Trial, bundle

__all__ = [
    "ANSWERS",
    "CODE_LENGTH",
    "DISTANCES",
    "QUERIES",
    "STARTUP_SECONDS",
    "UNKNOWN_PARAMETERS",
    "Answers",
    "Dependency",
    "EngineGroup",
    "Ladder",
    "Lesson",
    "Plan",
    "Point",
    "EvaluationRequest",
    "Rung",
    "Start",
    "TaskInfo",
    "Trial",
    "bundle",
    "canonical",
    "check_models",
    "find",
    "pairs_of",
    "parameters_in_name",
    "plan_sweep",
    "settings_of",
]
