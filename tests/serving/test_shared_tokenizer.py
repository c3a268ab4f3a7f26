"""Requests run in threads that share one tokenizer: none changes a setting under another."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the training extra is not installed")

import stand_ins

from elastic_ray.serving.engines.code_length import split_windows
from elastic_ray.serving.engines.transformers_engine import TransformersEngine
from elastic_ray.serving.engines.transformers_scorer import TransformersScorer
from elastic_ray.serving.types import CodedText, EngineConfig, Sampling, ScorerConfig, Weights

ROUNDS = 6
PROMPTS = [(i, "the film is good " * (1 + i % 7)) for i in range(24)]
TEXTS = [CodedText("the film", "is good and long " * (1 + i % 5)) for i in range(24)]
SAMPLING = Sampling(1, 2, 0.0, 0, 1.0, 0)


def test_answers_do_not_depend_on_texts_tokenized_meanwhile(tmp_path: Path) -> None:
    """Code lengths and distances tokenize before they take the model, so while others answer."""
    folder = str(stand_ins.language_model(tmp_path / "one", "llama", 0))
    weights = Weights("one", folder)
    engine = TransformersEngine(
        EngineConfig("e", "transformers", folder, None, "one", "float32", 128)
    )
    asyncio.run(engine.load_weights(weights))
    answers = asyncio.run(engine.generate(weights, PROMPTS, SAMPLING))
    windows = split_windows(engine._tokens.tokenizer, TEXTS, 32, 128)
    done = threading.Event()

    def tokenize_texts() -> int:
        rounds = 0
        while not done.is_set():
            assert split_windows(engine._tokens.tokenizer, TEXTS, 32, 128) == windows
            rounds += 1
        return rounds

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(tokenize_texts) for _ in range(2)]
        try:
            for _ in range(ROUNDS):
                assert asyncio.run(engine.generate(weights, PROMPTS, SAMPLING)) == answers
        finally:
            done.set()
        assert all(other.result() > 0 for other in others)


def test_scores_at_the_same_time_are_those_alone(tmp_path: Path) -> None:
    folder = str(stand_ins.sentiment(tmp_path / "scorer"))
    scorer = TransformersScorer(
        ScorerConfig("s", "transformers", folder, None, "mean", max_model_len=16)
    )
    texts = ["the film is good " * (1 + i % 9) for i in range(40)]

    async def alone_and_together() -> tuple[Any, list[Any]]:
        alone = await scorer.score(texts)
        return alone, await asyncio.gather(*(scorer.score(texts) for _ in range(8 * ROUNDS)))

    alone, together = asyncio.run(alone_and_together())
    assert all(found == alone for found in together)
