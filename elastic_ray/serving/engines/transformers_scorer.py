"""The scorer backend on transformers' sequence classification."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ...checkpoints.architecture import load_model
from ..types import Score, ScorerConfig, score_from_outputs
from .scorer_tokenizer import ScorerTokenizer, scorer_folder

BATCH = 64
"""Texts per batch."""


class TransformersScorer:
    """A classifier in this process, in float32."""

    def __init__(self, config: ScorerConfig, notice: str | None = None) -> None:
        import torch
        import transformers

        from .score_model import ScoreModel

        self._device = "cuda" if config.gpus and torch.cuda.is_available() else "cpu"
        self._config, self.notice = config, notice
        self.version = f"transformers {transformers.__version__}"
        self._tokenizer = ScorerTokenizer(config)
        if self._tokenizer.tokenizer.pad_token_id is None:
            self._tokenizer.tokenizer.pad_token = self._tokenizer.tokenizer.eos_token
        self._model: Any
        if self._tokenizer.is_score_model:
            self._model = ScoreModel(scorer_folder(config), config.trust_remote_code).eval()
        else:
            self._model = load_model(
                scorer_folder(config), "classifier", "float32", config.trust_remote_code
            )
        self._model = self._model.to(self._device)

    async def score(self, texts: Sequence[str]) -> list[Score]:
        """As `ScorerBackend.score`."""
        return await asyncio.to_thread(self._score, texts)

    def _score(self, texts: Sequence[str]) -> list[Score]:
        import torch

        scores: list[Score] = []
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                tokens = self._tokenizer.tokenize(texts[start : start + BATCH])
                # Fills lists of ids; unlike padding while tokenizing, it changes no setting.
                inputs = self._tokenizer.tokenizer.pad({"input_ids": tokens}, return_tensors="pt")
                logits = (
                    self._model(
                        input_ids=inputs["input_ids"].to(self._device),
                        attention_mask=inputs["attention_mask"].to(self._device),
                    )
                    .logits.float()
                    .cpu()
                )
                rows = logits if logits.shape[1] == 1 else logits.softmax(-1)
                scores += [
                    score_from_outputs([float(x) for x in row], self._config) for row in rows
                ]
        return scores

    async def check_health(self) -> None:
        """Do nothing: the model runs in this process."""

    async def close(self) -> None:
        """Do nothing: the model ends with this process."""
