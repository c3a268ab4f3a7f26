"""The `ScorerBackend` protocol, with a vLLM and a transformers implementation, and the choice.

A scorer is a sequence classifier, or a score model of safe-rlhf (see `score_model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...checkpoints.classifier import read_config
from ..errors import EngineError
from ..types import Score, ScoredText, ScorerConfig
from .scorer_tokenizer import scorer_folder
from .vllm_runtime import choose_vllm, foreign_architecture


class ScorerBackend(Protocol):
    """Scores texts with one model."""

    version: str
    """Name and version of the library, e.g. "vllm 0.32.0"."""
    notice: str | None
    """Why this is not the configured backend; None where it is."""

    async def score(self, texts: Sequence[ScoredText]) -> list[Score]:
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

    It also does for a model that vLLM has no classifier for. Raises `EngineError` if the
    configuration wants vLLM all the same.
    """
    what = f"scorer {config.name}"
    use_vllm, notice = choose_vllm(what, config.kind, config.gpus)
    if use_vllm and (foreign := foreign_architecture(read_config(scorer_folder(config)))):
        if config.kind == "vllm":
            raise EngineError(f"{what}: {foreign}; set resources.scorers.engine to transformers")
        use_vllm, notice = False, f"{foreign}; transformers is used"
    # Imported here, as in `engine`.
    if use_vllm:
        from .vllm_scorer import VllmScorer

        return VllmScorer(config)
    from .transformers_scorer import TransformersScorer

    return TransformersScorer(config, notice)
