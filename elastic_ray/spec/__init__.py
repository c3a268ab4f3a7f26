"""The schema of a sweep file: what may be asked, and in which words (pydantic).

`spec_file.load_spec` reads one.
"""

from __future__ import annotations

from .loader import load_spec, placed
from .model import Init, Model
from .part import GRID, IDENTITY, RUNTIME, Counts, Name, Part, Seed, SpecError, ascending
from .probes import CodeLength, Generation, Lessons, Probes
from .resources import Resources, Serving
from .spec import Spec
from .task import Instruct, Scorer, Task
from .training import CORPORA, STAGES, Lora, Recipe, Runtime, Training

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
    "Model",
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
    "ascending",
    "load_spec",
    "placed",
]
