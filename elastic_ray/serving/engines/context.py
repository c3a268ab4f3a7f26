"""The context length of an engine or scorer, and the check that an answer fits into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import EngineError
from ..types import EngineConfig, ScorerConfig

Prompts = Sequence[tuple[int, str]]
"""(index, text) of each prompt."""

AFTER_PADDING = (
    "camembert",
    "data2vec-text",
    "ibert",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
"""Model types whose first position is the padding id + 1 (`create_position_ids_from_input_ids`)."""


def context_length(config: EngineConfig | ScorerConfig) -> int:
    """Return the tokens, of prompt and answer together, that model and configuration allow."""
    from transformers import AutoConfig

    loaded = AutoConfig.from_pretrained(
        config.checkpoint, revision=config.revision, trust_remote_code=config.trust_remote_code
    )
    positions = position_limit(loaded.get_text_config())
    return config.max_model_len if positions is None else min(config.max_model_len, positions)


def position_limit(config: Any) -> int | None:
    """Return the longest text in tokens that a model's positions allow; None without a limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:  # XLNet, for one, says -1
        return None
    if getattr(config, "model_type", "") in AFTER_PADDING:
        padding = getattr(config, "pad_token_id", None)
        positions -= 2 if padding is None else padding + 1
    return positions


def check_fits_context(tokens: int, context: int) -> None:
    """Raise `EngineError` if a prompt and its longest possible answer exceed the context."""
    if tokens > context:
        raise EngineError(
            f"prompt and answer may take {tokens} tokens; the context is {context} "
            "(generation.max_tokens, resources.engines.context, the model's own positions)"
        )
