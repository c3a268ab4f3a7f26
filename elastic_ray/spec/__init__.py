"""Sweep files: their schema (pydantic), the loader, and error messages with line numbers.

`load_spec` reads a file into a `Spec`. One file holds the schema of each part: `spec` (the whole),
`model`, `task`, `training`, `probes`, `resources`, and `part` (what they share). `loader` reads,
`yaml_lines` parses YAML with line numbers, `overrides` applies `--set path=value`, `shorthand`
writes out short forms, `error_messages` and `value_text` word the errors, and `json_schema`
describes sweep files for editors. Pure: pydantic and PyYAML only.
"""

from __future__ import annotations

from .json_schema import json_schema
from .loader import add_line_numbers, load_spec
from .model import Init, Model
from .part import GRID, IDENTITY, RUNTIME, Counts, Name, Part, Seed, SpecError, ascending
from .probes import CodeLength, Generation, Lessons, Measures, Probes
from .resources import Resources, Serving
from .spec import Spec
from .task import Instruct, Scorer, Task
from .training import CORPORA, STAGES, Lora, ModelRuntime, Recipe, Runtime, Training

__all__ = [
    "CORPORA",
    "GRID",
    "IDENTITY",
    "RUNTIME",
    "STAGES",
    "CodeLength",
    "Counts",
    "Generation",
    "Init",
    "Instruct",
    "Lessons",
    "Lora",
    "Measures",
    "Model",
    "ModelRuntime",
    "Name",
    "Part",
    "Probes",
    "Recipe",
    "Resources",
    "Runtime",
    "Scorer",
    "Seed",
    "Serving",
    "Spec",
    "SpecError",
    "Task",
    "Training",
    "add_line_numbers",
    "ascending",
    "json_schema",
    "load_spec",
]
