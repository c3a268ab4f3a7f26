"""Code lengths by vLLM under Ray Serve, and by the transformers engine, against transformers."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("psutil", reason="the training extra is not installed")
pytest.importorskip("ray", reason="the training extra is not installed")

from served_requests import (
    CODED_TEXTS,
    STATES,
    WINDOW,
    Served,
    engine_config,
    transformers_code_lengths,
)

from elastic_ray.serving.engines.transformers_engine import TransformersEngine
from elastic_ray.serving.errors import EngineError
from elastic_ray.serving.types import CodeLengthResult

pytestmark = pytest.mark.integration


def assert_equal_per_token(lengths: list[CodeLengthResult], expected: list[float]) -> None:
    """Within 1e-4 of a bit per token; the text longer than the context has 180 tokens."""
    assert [m.bits / m.tokens for m in lengths] == [
        pytest.approx(bits / m.tokens, abs=1e-4) for bits, m in zip(expected, lengths, strict=True)
    ]


def test_code_lengths_equal_transformers_after_swaps_under_load(served: Served) -> None:
    expected = {name: transformers_code_lengths(served, name) for name in (*STATES, "lora")}
    assert len(served.code_lengths) == 16
    for name, lengths in served.code_lengths:
        assert_equal_per_token(lengths, expected[name])
        assert {m.held_state for m in lengths} == {name}
        assert [m.bytes for m in lengths] == [len(t.response.encode()) for t in CODED_TEXTS]
        words = [len(t.response.split()) for t in CODED_TEXTS]
        assert [m.tokens for m in lengths] == [n + 1 for n in words], "the end token counts"


def test_the_transformers_engine_gives_the_same_code_lengths(served: Served) -> None:
    async def code_lengths() -> dict[str, list[CodeLengthResult]]:
        engine = TransformersEngine(engine_config(served.weights["a"], "transformers"))
        lengths = {}
        for name in ("a", "lora", "c"):
            weights = served.weights[name]
            await engine.load_weights(weights)
            lengths[name] = await engine.code_lengths(weights, CODED_TEXTS, WINDOW)
        with pytest.raises(EngineError, match="window is 64; the context is 64"):
            await engine.code_lengths(served.weights["c"], CODED_TEXTS, 64)
        with pytest.raises(EngineError, match="text 10: its prompt takes 4 tokens"):
            await engine.code_lengths(served.weights["c"], CODED_TEXTS, 4)
        return lengths

    for name, lengths in asyncio.run(code_lengths()).items():
        assert_equal_per_token(lengths, transformers_code_lengths(served, name))
        assert {m.held_state for m in lengths} == {name}
