"""Schema of `resources`: what a sweep may use of the cluster."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .part import RUNTIME, Part


class Serving(Part):
    """The replicas that generate answers or score them: their backend and what each may use."""

    engine: Literal["auto", "vllm", "transformers"] = Field("auto", json_schema_extra=RUNTIME)
    """Backend. `auto` is vLLM where it can be imported, else transformers, with a notice."""
    replicas: int | None = Field(None, ge=1, le=4096, json_schema_extra=RUNTIME)
    """Replicas per engine group. Default: as many as fit next to the trainers."""
    cpus: float | None = Field(None, gt=0, json_schema_extra=RUNTIME)
    """CPUs per replica. Default: derived from the cluster."""
    gpus: float | None = Field(None, ge=0, json_schema_extra=RUNTIME)
    """GPUs per replica. Default on a cluster with GPUs: for engines a share of one where the model
    fits, else several GPUs of one node; for scorers 0."""
    tensor_parallel: int = Field(1, ge=1, json_schema_extra=RUNTIME)
    """Whole GPUs over which one engine is split; more than 1 sets `gpus`."""
    context: int = Field(512, ge=16, json_schema_extra=RUNTIME)
    """Tokens that a request may hold, prompt and answer together. Longer requests are refused,
    never truncated."""
    kv_cache_gib: float = Field(1.0, gt=0, json_schema_extra=RUNTIME)
    """Key-value cache of a CPU engine, in GiB."""
    gpu_memory: float = Field(0.85, gt=0, le=1, json_schema_extra=RUNTIME)
    """Share of its GPU's memory, or of its part of a GPU, that vLLM may use."""


class Resources(Part):
    """Limits of a sweep. Defaults are derived from the cluster."""

    trainers: int | None = Field(None, ge=1, json_schema_extra=RUNTIME)
    """Ladders trained at the same time. Default: as many as fit."""
    max_gpu_hours: float | None = Field(None, gt=0, json_schema_extra=RUNTIME)
    """Budget of the whole sweep over all its runs: GPUs reserved by trainers, engines and scorers,
    times hours. Once it is used up the sweep stops as on Ctrl-C; a larger budget continues it."""
    max_cpu_hours: float | None = Field(None, gt=0, json_schema_extra=RUNTIME)
    """The same for CPUs."""
    engines: Serving = Field(default_factory=Serving, json_schema_extra=RUNTIME)
    """The engines that generate answers."""
    scorers: Serving = Field(default_factory=Serving, json_schema_extra=RUNTIME)
    """The scorers that score answers."""
