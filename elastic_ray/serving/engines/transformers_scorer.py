"""The scorer backend on transformers' sequence classification."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from ...checkpoints.architecture import load_model
from ..types import Score, ScoredText, ScorerConfig
from .scorer_tokenizer import ScorerTokenizer, scorer_folder
from .scores import ScoreRule

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
        self._rule = ScoreRule(config, scorer_folder(config))
        self._model: Any
        if self._tokenizer.is_score_model:
            self._model = ScoreModel(scorer_folder(config), config.trust_remote_code).eval()
        else:
            self._model = load_model(
                scorer_folder(config), "classifier", "float32", config.trust_remote_code
            )
            text_config = self._model.config.get_text_config()
            if getattr(text_config, "pad_token_id", None) is None:
                # A decoder without padding token reads a batch only where one is set. Batches are
                # never padded, so it is one that no text has.
                text_config.pad_token_id = -1
        self._model = self._model.to(self._device)

    async def score(self, texts: Sequence[ScoredText]) -> list[Score]:
        """As `ScorerBackend.score`."""
        return await asyncio.to_thread(self._score, texts)

    def _score(self, texts: Sequence[ScoredText]) -> list[Score]:
        import torch

        tokens = self._tokenizer.tokenize(texts)
        scores: dict[int, Score] = {}
        with torch.inference_mode():
            for batch in equal_lengths(tokens, BATCH):
                ids = torch.tensor([tokens[i] for i in batch], device=self._device)
                out = self._model(input_ids=ids, attention_mask=torch.ones_like(ids))
                rows = out.logits.float().cpu().tolist()
                scores |= {i: self._rule.score(row) for i, row in zip(batch, rows, strict=True)}
        return [scores[i] for i in range(len(texts))]

    async def check_health(self) -> None:
        """Do nothing: the model runs in this process."""

    async def close(self) -> None:
        """Do nothing: the model ends with this process."""


def equal_lengths(rows: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    """Yield the indices of rows of one length, at most `most` at a time.

    Models differ in what padding does to a text: its side moves positions, and some find a text's
    end by the padding token. Without padding a text alone and in a batch are the same.
    """
    by_length: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(i)
    for same in by_length.values():
        for start in range(0, len(same), most):
            yield same[start : start + most]
