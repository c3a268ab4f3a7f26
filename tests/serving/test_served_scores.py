"""Scores of vLLM under Ray Serve, and of the transformers backend, against transformers."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("psutil", reason="the training extra is not installed")
pytest.importorskip("ray", reason="the training extra is not installed")

import torch
from served_requests import SCORED_TEXTS, Served, scorer_config
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from elastic_ray.serving.engines.scorer import make_scorer_backend

pytestmark = pytest.mark.integration


def test_scores_equal_transformers(served: Served) -> None:
    folder = served.root / "scorer"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for text, score in zip(SCORED_TEXTS, served.scores, strict=True):
        ids = tokenizer(text, truncation=True, max_length=64, return_tensors="pt").input_ids
        with torch.inference_mode():
            expected = float(model(input_ids=ids).logits.softmax(-1)[0, 1])
        assert score.probability == pytest.approx(expected, abs=1e-5)
        assert score.score == float(expected > 0.5)
    assert len({s.score for s in served.scores}) == 2


def test_the_transformers_scorer_gives_the_same_scores(served: Served) -> None:
    shares, means = (
        asyncio.run(
            make_scorer_backend(scorer_config(served.root, mode, "transformers")).score(
                SCORED_TEXTS
            )
        )
        for mode in ("share", "mean")
    )
    for one, other in zip(shares, served.scores, strict=True):
        assert one.score == other.score
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
    assert [m.score for m in means] == [pytest.approx(p.probability, abs=1e-6) for p in shares]
