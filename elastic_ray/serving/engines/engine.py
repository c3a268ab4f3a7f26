"""An engine: holds one state's weights, answers prompts, takes other weights (vLLM's AsyncLLM).

`Engine` is the seam; `VllmEngine` is one side of it, `plain_engine.PlainEngine` the other.
`make_engine` chooses, and says so where it falls back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..errors import EngineError
from ..types import Answer, CodedText, CodeLengthResult, EngineConfig, Sampling, Weights
from .context import Prompts
from .vllm_engine import VllmEngine
from .vllm_runtime import vllm_unavailable_reason

if TYPE_CHECKING:
    pass


class Engine(Protocol):
    """What a replica needs of an engine. The caller holds a lease while it uses one."""

    version: str
    notice: str | None

    async def load_weights(self, weights: Weights) -> None:
        """Hold the full weights of `weights`; only while no request is in flight."""
        ...

    async def generate(
        self, weights: Weights, prompts: Prompts, sampling: Sampling
    ) -> list[Answer]:
        """Answers in the order of prompts, then samples."""
        ...

    async def code_lengths(
        self, weights: Weights, texts: Sequence[CodedText], size: int
    ) -> list[CodeLengthResult]:
        """Code lengths in the order of texts, read in windows of `size` tokens (`coding`)."""
        ...

    async def check_health(self) -> None:
        """Raises if the engine can answer no more."""
        ...

    async def close(self) -> None: ...


def make_engine(config: EngineConfig) -> Engine:
    """The engine that the configuration asks for; `EngineError` where it cannot be had."""
    from .transformers_engine import TransformersEngine

    if config.kind == "transformers":
        return TransformersEngine(config)
    missing = vllm_unavailable_reason()
    if missing is None:
        return VllmEngine(config)
    if config.kind == "vllm":
        raise EngineError(f"engine {config.name}: vLLM cannot be had here: {missing}")
    return TransformersEngine(config, f"vLLM cannot be had here ({missing}); transformers steps in")
