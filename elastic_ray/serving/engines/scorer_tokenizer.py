"""How a scorer's texts become tokens, and where its files are; shared by the scorer backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...checkpoints.hub import download_model
from ..types import ScorerConfig
from .context import context_length


class ScorerTokenizer:
    """A scorer's tokenizer, with its rules of cutting and ending texts."""

    def __init__(self, config: ScorerConfig) -> None:
        from transformers import AutoConfig, AutoTokenizer

        from .score_model import is_score_model

        options: dict[str, Any] = {
            "revision": config.revision,
            "trust_remote_code": config.trust_remote_code,
        }
        self.is_score_model = is_score_model(
            AutoConfig.from_pretrained(config.checkpoint, **options)
        )
        self.context = context_length(config)
        self.tokenizer = AutoTokenizer.from_pretrained(config.checkpoint, **options)
        # Threads share the tokenizer, and truncation is a setting of it. This call turns it on; all
        # calls after it use the same setting, so that none changes it while another one tokenizes.
        self.tokenize([""])

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, cut at the context length."""
        from .score_model import tokenize_with_end

        if self.is_score_model:
            return tokenize_with_end(self.tokenizer, texts, self.context)
        batch = self.tokenizer(list(texts), truncation=True, max_length=self.context)
        return list(batch.input_ids)


def scorer_folder(config: ScorerConfig) -> str:
    """Return the folder of a scorer's files; a hub model is downloaded."""
    if config.revision is None:
        return config.checkpoint
    return download_model(
        config.checkpoint, config.revision, trust_remote_code=config.trust_remote_code
    )
