"""Planning: from a spec to model states, training ladders, probes and trials, each with its id.

`planner` makes a `Plan`. `graph` holds its types, `identity` the ids; `ladders` fuses states into
training runs; `inputs` reads what a spec refers to; `task_info` checks that the data is large
enough; `scorers` tells what scorers score; `model_size` counts parameters, `model_shape` finds
widths; `trials` bundles ladders for Ray Tune; `keep` says which checkpoints stay at the end;
`names` what people call the parts.
"""

from __future__ import annotations

from .graph import (
    ANSWERS,
    CODE_LENGTH,
    DISTANCES,
    QUERIES,
    Dependency,
    EngineGroup,
    EvaluationRequest,
    ExampleCounts,
    Ladder,
    Lesson,
    Plan,
    Point,
    Rung,
    pairs_of,
)
from .identity import Answers, Start, canonical
from .inputs import SweepInputs, check_local_models, check_models, load_inputs, settings_of
from .keep import keeps_checkpoint
from .model_shape import ModelShape
from .model_size import UNKNOWN_PARAMETERS, parameters_in_name
from .names import engine_names, ladder_names
from .planner import plan_sweep
from .scorers import TRAINED, scorer_lines
from .task_info import TaskInfo
from .trials import STARTUP_SECONDS, Trial, bundle

__all__ = [
    "ANSWERS",
    "CODE_LENGTH",
    "DISTANCES",
    "QUERIES",
    "STARTUP_SECONDS",
    "TRAINED",
    "UNKNOWN_PARAMETERS",
    "Answers",
    "Dependency",
    "EngineGroup",
    "EvaluationRequest",
    "ExampleCounts",
    "Ladder",
    "Lesson",
    "ModelShape",
    "Plan",
    "Point",
    "Rung",
    "Start",
    "SweepInputs",
    "TaskInfo",
    "Trial",
    "bundle",
    "canonical",
    "check_local_models",
    "check_models",
    "engine_names",
    "keeps_checkpoint",
    "ladder_names",
    "load_inputs",
    "pairs_of",
    "parameters_in_name",
    "plan_sweep",
    "scorer_lines",
    "settings_of",
]
