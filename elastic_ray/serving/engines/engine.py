"""The `Engine` protocol, with a vLLM and a transformers implementation, and the choice of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..types import Answer, CodedText, CodeLengthResult, EngineConfig, Sampling, Weights
from .context import Prompts
from .vllm_runtime import choose_vllm


class Engine(Protocol):
    """Holds one state's full weights and runs requests on them.

    The caller holds a `WeightLease` during each call. Results carry the state that the engine
    itself reports; `EngineError` is raised where that is not the requested one.
    """

    version: str
    """Name and version of the library, e.g. "vllm 0.32.0"."""
    notice: str | None
    """Why this is not the configured engine; None where it is."""

    async def load_weights(self, weights: Weights) -> None:
        """Load a state's full weights in place of those held; no request may be in flight.

        Raises `CheckpointError` if they are missing, damaged, or differ from their record.
        """
        ...

    async def generate(
        self, weights: Weights, prompts: Prompts, sampling: Sampling
    ) -> list[Answer]:
        """Return sampled answers, in the order of prompts, then samples."""
        ...

    async def code_lengths(
        self, weights: Weights, texts: Sequence[CodedText], window: int
    ) -> list[CodeLengthResult]:
        """Return code lengths in the order of texts, read `window` tokens at a time (see
        `code_length`)."""
        ...

    async def check_health(self) -> None:
        """Raise if the engine is dead."""
        ...

    async def close(self) -> None:
        """End the engine's processes and free its memory."""
        ...


def make_engine(config: EngineConfig) -> Engine:
    """Return the configured engine; "auto" falls back to transformers where vLLM is missing.

    Raises `EngineError` if the configuration wants vLLM and it cannot be imported.
    """
    use_vllm, notice = choose_vllm(f"engine {config.name}", config.kind, config.gpus)
    # Imported here: the driver imports this module, and needs neither torch nor vLLM.
    if use_vllm:
        from .vllm_engine import VllmEngine

        return VllmEngine(config)
    from .transformers_engine import TransformersEngine

    return TransformersEngine(config, notice)
