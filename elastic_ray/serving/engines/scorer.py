"""The `ScorerBackend` protocol, with a vLLM and a transformers implementation, and the choice.

A scorer is a sequence classifier, or a score model of safe-rlhf (see `score_model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..types import Score, ScorerConfig
from .vllm_runtime import choose_vllm


class ScorerBackend(Protocol):
    """Scores texts with one model."""

    version: str
    """Name and version of the library, e.g. "vllm 0.32.0"."""
    notice: str | None
    """Why this is not the configured backend; None where it is."""

    async def score(self, texts: Sequence[str]) -> list[Score]:
        """Return the scores of texts, in their order. Long texts are cut at the context length."""
        ...

    async def check_health(self) -> None:
        """Raise if the backend is dead."""
        ...

    async def close(self) -> None:
        """End the backend's processes."""
        ...


def make_scorer_backend(config: ScorerConfig) -> ScorerBackend:
    """Return the configured backend; "auto" falls back to transformers where vLLM is missing.

    Raises `EngineError` if the configuration wants vLLM and it cannot be imported.
    """
    use_vllm, notice = choose_vllm(f"scorer {config.name}", config.kind, config.gpus)
    # Imported here, as in `engine`.
    if use_vllm:
        from .vllm_scorer import VllmScorer

        return VllmScorer(config)
    from .transformers_scorer import TransformersScorer

    return TransformersScorer(config, notice)
