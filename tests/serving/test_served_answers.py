"""Answers of vLLM under Ray Serve, with weights swapped under load, against transformers."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("psutil", reason="the training extra is not installed")
pytest.importorskip("ray", reason="the training extra is not installed")

from served_requests import (
    GREEDY,
    LONG_PROMPTS,
    PROMPTS,
    STATES,
    Served,
    engine_config,
    transformers_greedy,
)

from elastic_ray.serving.engines.transformers_engine import TransformersEngine
from elastic_ray.serving.engines.vllm_engine import BATCH_TOKENS
from elastic_ray.serving.types import Answer

pytestmark = pytest.mark.integration


def test_greedy_answers_equal_transformers_after_swaps_under_load(served: Served) -> None:
    expected = {name: transformers_greedy(served, name) for name in (*STATES, "lora")}
    assert len({tuple(texts) for texts in expected.values()}) == 4, "the states must differ"
    assert len(served.greedy) == 16
    for name, answers in (*served.greedy, *served.after_refusal):
        assert [a.response.strip() for a in answers] == expected[name], name
        assert [a.prompt_index for a in answers] == [i for i, _ in PROMPTS]
    assert [a.response.strip() for a in served.after_death] == expected["c"]


def test_every_answer_carries_the_state_that_the_engine_held(served: Served) -> None:
    for name, answers in (*served.greedy, *served.after_refusal, ("c", served.after_death)):
        assert {a.held_state for a in answers} == {name}
        assert {a.engine.split()[0] for a in answers} == {"vllm"}


def test_sampled_answers_do_not_depend_on_other_requests(served: Served) -> None:
    for alone, crowded in served.sampled.values():
        assert alone == crowded
        assert [(a.prompt_index, a.sample) for a in alone] == [
            (i, s) for i, _ in PROMPTS for s in range(2)
        ]
        assert len({a.response for a in alone}) > len(PROMPTS), "samples differ"


def test_damaged_weights_are_refused_and_the_engine_goes_on(served: Served) -> None:
    assert "do not match the recorded checksum" in served.refusals["truncated"]
    assert "do not match the recorded checksum" in served.refusals["other"]
    assert "missing" in served.refusals["missing"]
    assert [name for name, _ in served.after_refusal] == ["b"] * 3


def test_an_answer_that_may_exceed_the_context_is_refused_not_cut(served: Served) -> None:
    assert "the context is 64" in served.refusals["too long"]


def test_a_closed_engine_leaves_no_process(served: Served) -> None:
    assert served.processes_left == []


def test_more_prompts_than_are_read_at_a_time_are_all_answered(served: Served) -> None:
    words = sum(len(prompt.split()) for _, prompt in LONG_PROMPTS)
    assert words > BATCH_TOKENS
    assert [answer.prompt_index for answer in served.long_batch] == list(range(len(LONG_PROMPTS)))


def test_the_transformers_engine_gives_the_same_greedy_answers(served: Served) -> None:
    async def generate() -> dict[str, list[Answer]]:
        engine = TransformersEngine(engine_config(served.weights["a"], "transformers"))
        answers = {}
        for name in ("a", "lora", "c", "a"):
            await engine.load_weights(served.weights[name])
            answers[name] = await engine.generate(served.weights[name], PROMPTS, GREEDY)
        return answers

    for name, answers in asyncio.run(generate()).items():
        assert [a.response.strip() for a in answers] == transformers_greedy(served, name), name
        assert {a.held_state for a in answers} == {name}
