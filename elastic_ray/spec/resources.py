"""What a sweep may use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .part import RUNTIME, Part


class Serving(Part):
    """The replicas that answer, or score: what runs them and what each may use."""

    engine: Literal["auto", "vllm", "transformers"] = Field("auto", json_schema_extra=RUNTIME)
    """`auto` is vLLM where it can be imported, else transformers, and says so."""
    replicas: int | None = Field(None, ge=1, le=4096, json_schema_extra=RUNTIME)
    """Per architecture; default: what the cluster has room for beside the trainers."""
    cpus: float | None = Field(None, gt=0, json_schema_extra=RUNTIME)
    gpus: float | None = Field(None, ge=0, json_schema_extra=RUNTIME)
    """Per replica. Default, where the cluster has GPUs: for engines a share of one where that holds
    the model, several of one node where one does not; for scorers 0."""
    tensor_parallel: int = Field(1, ge=1, json_schema_extra=RUNTIME)
    """Whole GPUs over which one engine is split; more than one sets `gpus`."""
    context: int = Field(512, ge=16, json_schema_extra=RUNTIME)
    """Tokens a request may hold, prompt and answer; a longer one is refused, never cut."""
    kv_cache_gib: float = Field(1.0, gt=0, json_schema_extra=RUNTIME)
    """Key-value cache of a CPU engine, GiB."""
    gpu_memory: float = Field(0.85, gt=0, le=1, json_schema_extra=RUNTIME)
    """The share of its GPU's memory, or of its part of a GPU, that vLLM may take."""


class Resources(Part):
    """What may be used; the defaults are derived from the cluster."""

    trainers: int | None = Field(None, ge=1, json_schema_extra=RUNTIME)
    """Ladders trained at the same time."""
    max_gpu_hours: float | None = Field(None, gt=0, json_schema_extra=RUNTIME)
    """The budget of the whole sweep, all its runs together: GPUs that trainers, engines and scorers
    hold, times hours. Once it is used up the sweep stops as on Ctrl-C; with more it goes on."""
    max_cpu_hours: float | None = Field(None, gt=0, json_schema_extra=RUNTIME)
    """The same of CPUs."""
    engines: Serving = Field(default_factory=Serving, json_schema_extra=RUNTIME)
    scorers: Serving = Field(default_factory=Serving, json_schema_extra=RUNTIME)
