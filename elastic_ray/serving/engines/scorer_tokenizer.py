"""How a scorer's texts become tokens, and where its files are; shared by the scorer backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...checkpoints.hub import download_model
from ..errors import EngineError
from ..types import ScoredText, ScorerConfig
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
        model = AutoConfig.from_pretrained(config.checkpoint, **options)
        self.is_score_model = is_score_model(model)
        self.context = context_length(config)
        self.tokenizer = AutoTokenizer.from_pretrained(config.checkpoint, **options)
        self._name, self._chat = config.name, config.chat
        if self._chat and (self.is_score_model or not self.tokenizer.chat_template):
            raise EngineError(f"scorer {config.name}: text is chat; it has no chat template")
        self._padding: int | None = getattr(model.get_text_config(), "pad_token_id", None)
        # Threads share the tokenizer, and truncation is a setting of it. This call turns it on; all
        # calls after it use the same setting, so that none changes it while another one tokenizes.
        self._tokenize([""])
        if any(map(any, self.tokenizer(["a"]).get("token_type_ids", []))):
            raise EngineError(
                f"scorer {config.name}: {model.model_type} numbers the parts of a text "
                "(token_type_ids), which scorers do not pass on"
            )

    def tokenize(self, texts: Sequence[ScoredText]) -> list[list[int]]:
        """Return the token ids of each text, cut at the context length.

        transformers reads a decoder's score at the last token that is not the padding token, also
        where a text itself ends with it, as with an end token that is the padding too. What comes
        after is left out here, for every backend. Raises `EngineError` for a text without tokens.
        """
        read = [self._text(each) for each in texts]
        rows = [self._without_padding(ids) for ids in self._tokenize(read)]
        for text, ids in zip(read, rows, strict=True):
            if not ids:
                raise EngineError(f"scorer {self._name}: a text has no tokens: {text[:60]!r}")
        return rows

    def _text(self, each: ScoredText) -> str:
        if isinstance(each, str) != self._chat:
            if isinstance(each, str):
                return each
            turns = [
                {"role": "user", "content": each.question},
                {"role": "assistant", "content": each.answer},
            ]
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False))
        raise EngineError(
            f"scorer {self._name}: found a {type(each).__name__}; "
            f"it reads {'conversations' if self._chat else 'texts'}"
        )

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        from .score_model import tokenize_with_end

        if self.is_score_model:
            return tokenize_with_end(self.tokenizer, texts, self.context)
        batch = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.context,
            add_special_tokens=not self._chat,  # a template writes them itself
        )
        return [list(ids) for ids in batch.input_ids]

    def _without_padding(self, ids: list[int]) -> list[int]:
        if self.is_score_model or self._padding is None:
            return ids
        end = len(ids)
        while end > 1 and ids[end - 1] == self._padding:
            end -= 1
        return ids[:end]


def scorer_folder(config: ScorerConfig) -> str:
    """Return the folder of a scorer's files; a hub model is downloaded."""
    if config.revision is None:
        return config.checkpoint
    return download_model(
        config.checkpoint, config.revision, trust_remote_code=config.trust_remote_code
    )
