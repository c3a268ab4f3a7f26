"""Checks that prompts and texts fit an engine's context length."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import EngineError
from ..types import EngineConfig, ScorerConfig

Prompts = Sequence[tuple[int, str]]


def longest_text(config: EngineConfig | ScorerConfig) -> int:
    """Tokens that the model takes, prompt and answer together, and the configuration allows."""
    from transformers import AutoConfig

    loaded = AutoConfig.from_pretrained(
        config.checkpoint, revision=config.revision, trust_remote_code=config.trust_remote_code
    )
    positions = int(getattr(loaded, "max_position_embeddings", config.max_model_len))
    if getattr(loaded, "model_type", "") in ("roberta", "xlm-roberta", "camembert"):
        positions -= 2  # they are numbered from the padding's id + 1
    return min(config.max_model_len, positions)


def check_fits(tokens: int, longest: int) -> None:
    """`EngineError` where a prompt and its longest answer exceed the context."""
    if tokens > longest:
        raise EngineError(
            f"prompt and answer may take {tokens} tokens; the context is {longest} "
            "(generation.max_tokens, resources.engines.context, the model's own positions)"
        )
