"""Schema of `resources`: what a sweep may use of the cluster."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .part import RUNTIME, Part


class Serving(Part):
    """The replicas that generate answers or score them: their backend, number and resources."""

    engine: Literal["auto", "vllm", "transformers"] = Field("auto", json_schema_extra=RUNTIME)
    """Backend. `auto` is vLLM if it can be imported, otherwise transformers, with a notice."""
    replicas: int | None = Field(None, ge=1, le=4096, json_schema_extra=RUNTIME)
    """Replicas per engine group. Default: as many as fit next to the trainers."""
    cpus: float | None = Field(None, gt=0, json_schema_extra=RUNTIME)
    """CPUs per replica. Default: derived from the cluster."""
    gpus: float | None = Field(None, ge=0, json_schema_extra=RUNTIME)
    """GPUs per replica. Default on a cluster with GPUs: for engines, a fraction of a GPU if the
    model fits into it, otherwise several GPUs of one node; for scorers, 0.25. With 0, vLLM for GPUs
    cannot start, and `engine: auto` uses transformers."""
    tensor_parallel: int = Field(1, ge=1, json_schema_extra=RUNTIME)
    """Number of whole GPUs that one engine is split over. A number above 1 also sets `gpus`."""
    context: int = Field(512, ge=16, json_schema_extra=RUNTIME)
    """Maximum number of tokens of a request, prompt and answer together. Engines refuse longer
    ones. Scorers cut texts there, so a scorer's value is part of its id where it is not 512."""
    kv_cache_gib: float = Field(1.0, gt=0, json_schema_extra=RUNTIME)
    """Size of a CPU engine's key-value cache, in GiB."""
    gpu_memory: float = Field(0.85, gt=0, le=1, json_schema_extra=RUNTIME)
    """Fraction of GPU memory that vLLM may use. If an engine has a part of a GPU, this is the
    fraction of that part."""


class Resources(Part):
    """Limits of a sweep. Defaults are derived from the cluster."""

    trainers: int | None = Field(None, ge=1, json_schema_extra=RUNTIME)
    """Number of ladders trained at the same time. Default: as many as fit."""
    max_gpu_hours: float | None = Field(None, gt=0, json_schema_extra=RUNTIME)
    """Budget of the whole sweep over all its runs: the GPU-hours that trainers, engines and scorers
    reserve. When it is used up, the sweep stops as on Ctrl-C. It continues with a larger budget."""
    max_cpu_hours: float | None = Field(None, gt=0, json_schema_extra=RUNTIME)
    """The same budget in CPU-hours."""
    engines: Serving = Field(default_factory=Serving, json_schema_extra=RUNTIME)
    """The engines that generate answers."""
    scorers: Serving = Field(default_factory=Serving, json_schema_extra=RUNTIME)
    """The scorers that score answers."""
