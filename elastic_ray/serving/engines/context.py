"""The context length of an engine or scorer, and the check that an answer fits into it."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import EngineError
from ..types import EngineConfig, ScorerConfig

Prompts = Sequence[tuple[int, str]]
"""(index, text) of each prompt."""


def context_length(config: EngineConfig | ScorerConfig) -> int:
    """Return the tokens, of prompt and answer together, that model and configuration allow."""
    from transformers import AutoConfig

    loaded = AutoConfig.from_pretrained(
        config.checkpoint, revision=config.revision, trust_remote_code=config.trust_remote_code
    )
    positions = int(getattr(loaded, "max_position_embeddings", config.max_model_len))
    if getattr(loaded, "model_type", "") in ("roberta", "xlm-roberta", "camembert"):
        positions -= 2  # their position ids start after that of the padding
    return min(config.max_model_len, positions)


def check_fits_context(tokens: int, context: int) -> None:
    """Raise `EngineError` if a prompt and its longest possible answer exceed the context."""
    if tokens > context:
        raise EngineError(
            f"prompt and answer may take {tokens} tokens; the context is {context} "
            "(generation.max_tokens, resources.engines.context, the model's own positions)"
        )
