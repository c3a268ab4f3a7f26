"""The engine on transformers: for machines without vLLM, and for distances between states.

It is slower than vLLM and keeps the same rules (docs/concepts.md#rule-4): answers are reproducible,
do not depend on the rest of the batch, and carry the state that was held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...elasticity import METRICS
from ..errors import EngineError
from ..types import (
    Answer,
    CodedText,
    CodeLengthResult,
    DistanceResult,
    EngineConfig,
    Sampling,
    Weights,
)
from .answer_tokens import AnswerTokens
from .code_length import split_windows, sum_windows
from .context import Prompts
from .distances import text_distances, tokenize_answer
from .transformers_inference import sample_batch, window_nats
from .transformers_models import ModelHolder, StateModel

ANSWER_BATCH = 64
"""Answers per batch."""
WINDOW_BATCH = 8
"""Windows of text per batch. Logits of every token of a window are in memory at a time."""


class TransformersEngine:
    """Runs transformers' forward pass in threads, one request at a time."""

    def __init__(self, config: EngineConfig, notice: str | None = None) -> None:
        import transformers

        if config.deterministic:
            raise EngineError(
                f"engine {config.name}: generation.deterministic is true, which vLLM on GPUs can "
                "do, but not transformers"
            )
        self.notice = notice
        self.version = f"transformers {transformers.__version__}"
        self._tokens = AnswerTokens(config)
        self._models = ModelHolder(config)

    async def load_weights(self, weights: Weights) -> None:
        """As `Engine.load_weights`."""
        await asyncio.to_thread(self._models.load, weights)

    async def generate(
        self, weights: Weights, prompts: Prompts, sampling: Sampling
    ) -> list[Answer]:
        """As `Engine.generate`."""
        return await asyncio.to_thread(self._generate, weights, prompts, sampling)

    def _generate(self, weights: Weights, prompts: Prompts, sampling: Sampling) -> list[Answer]:
        questions = self._tokens.questions(prompts, sampling.max_tokens)
        rows = [
            (index, sample, prompt, question)
            for (index, prompt), question in zip(prompts, questions, strict=True)
            for sample in range(sampling.samples)
        ]
        answers: list[Answer] = []
        with self._models.use(weights) as loaded:
            for start in range(0, len(rows), ANSWER_BATCH):
                answers += self._answer_batch(loaded, rows[start : start + ANSWER_BATCH], sampling)
        return answers

    def _answer_batch(
        self, loaded: StateModel, rows: list[tuple[int, int, str, list[int]]], sampling: Sampling
    ) -> list[Answer]:
        """Return the answers to (prompt index, sample, prompt, its tokens)."""
        seeds = [sampling.request_seed(index, sample) for index, sample, _, _ in rows]
        questions = [question for *_, question in rows]
        sampled = sample_batch(loaded.model, questions, seeds, sampling, self._tokens.ends)
        return [
            self._tokens.answer(
                (index, sample, prompt), question, ids, (loaded.state, seed, self.version)
            )
            for (index, sample, prompt, question), ids, seed in zip(
                rows, sampled, seeds, strict=True
            )
        ]

    async def code_lengths(
        self, weights: Weights, texts: Sequence[CodedText], window: int
    ) -> list[CodeLengthResult]:
        """As `Engine.code_lengths`."""
        return await asyncio.to_thread(self._code_lengths, weights, texts, window)

    def _code_lengths(
        self, weights: Weights, texts: Sequence[CodedText], window: int
    ) -> list[CodeLengthResult]:
        windows = split_windows(self._tokens.tokenizer, texts, window, self._tokens.context)
        readings: list[tuple[float, str]] = []
        with self._models.use(weights) as loaded:
            for start in range(0, len(windows), WINDOW_BATCH):
                batch = windows[start : start + WINDOW_BATCH]
                readings += [(nats, loaded.state) for nats in window_nats(loaded.model, batch)]
        return sum_windows(texts, windows, readings)

    async def distances(
        self, weights: Weights, reference: Weights, answers: Sequence[Answer]
    ) -> list[DistanceResult]:
        """Return a state's distances from `reference`, on answers of that reference.

        They are in the order of the answers, without those that have no token. The model of the
        reference stays in memory for the next call.
        """
        return await asyncio.to_thread(self._distances, weights, reference, answers)

    def _distances(
        self, weights: Weights, reference: Weights, answers: Sequence[Answer]
    ) -> list[DistanceResult]:
        tokens = self._tokens
        tokenized = [tokenize_answer(tokens.tokenizer, each, tokens.context) for each in answers]
        compared = [(a, text) for a, text in zip(answers, tokenized, strict=True) if text]
        with self._models.use(weights) as loaded:
            other = self._models.reference(reference)
            found = text_distances(other.model, loaded.model, [text for _, text in compared])
        return [
            DistanceResult(
                answer.prompt_index,
                answer.sample,
                {metric: getattr(each, metric) for metric in METRICS},
                each.tokens,
                loaded.state,
                other.state,
            )
            for (answer, _), each in zip(compared, found, strict=True)
        ]

    async def check_health(self) -> None:
        """Do nothing: the model runs in this process."""

    async def close(self) -> None:
        """Free the models."""
        self._models.close()
