"""Distances between token distributions: their definitions, and reading texts block by block."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the training extra is not installed")

import stand_ins
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from elastic_ray.checkpoints.files import CheckpointError
from elastic_ray.elasticity import METRICS
from elastic_ray.serving.engines.distances import (
    TokenizedText,
    blockwise_logits,
    position_distances,
    text_distances,
    tokenize_answer,
)
from elastic_ray.serving.engines.transformers_engine import TransformersEngine
from elastic_ray.serving.errors import EngineError
from elastic_ray.serving.types import Answer, DistanceResult, EngineConfig, Weights

Array = NDArray[np.float64]


def naive(reference: Array, other: Array) -> Array:
    """The definitions, row by row, in float64."""
    found = []
    for one, two in zip(reference, other, strict=True):
        log_p = one - one.max() - math.log(math.fsum(np.exp(one - one.max())))
        log_q = two - two.max() - math.log(math.fsum(np.exp(two - two.max())))
        p, q = np.exp(log_p), np.exp(log_q)
        m = (p + q) / 2
        kl = math.fsum(a * (x - y) for a, x, y in zip(p, log_p, log_q, strict=True) if a)
        to_m = math.fsum(a * math.log(a / c) for a, c in zip(p, m, strict=True) if a)
        from_m = math.fsum(b * math.log(b / c) for b, c in zip(q, m, strict=True) if b)
        cross = -math.fsum(p * log_q)
        found.append((cross, kl, (to_m + from_m) / 2, math.fsum(abs(p - q)) / 2))
    return np.array(found).T


def drawn(positions: int, vocabulary: int, seed: int, spread: float) -> tuple[Array, Array]:
    """Logits of two states, the second near the first or far from it."""
    rng = np.random.default_rng(seed)
    one = rng.normal(0, spread, (positions, vocabulary))
    return one, one + rng.normal(0, spread * rng.choice([0.01, 1, 3]), one.shape)


DRAWN = {
    "positions": st.integers(1, 6),
    "vocabulary": st.integers(2, 400),
    "seed": st.integers(0, 2**32 - 1),
    "spread": st.sampled_from([0.1, 1.0, 5.0, 40.0]),
}


@given(**DRAWN)
@settings(max_examples=150)
def test_distances_equal_their_definitions(
    positions: int, vocabulary: int, seed: int, spread: float
) -> None:
    one, two = drawn(positions, vocabulary, seed, spread)
    found = position_distances(torch.tensor(one), torch.tensor(two)).numpy()
    assert found.shape == (len(METRICS), positions) and found.dtype == np.float64
    np.testing.assert_allclose(found, naive(one, two), rtol=1e-10, atol=1e-10)


@given(**DRAWN)
@settings(max_examples=100)
def test_distances_keep_their_bounds_and_symmetries(
    positions: int, vocabulary: int, seed: int, spread: float
) -> None:
    one, two = (torch.tensor(each) for each in drawn(positions, vocabulary, seed, spread))
    cross, kl, js, tv = position_distances(one, two)
    _, _, js_back, tv_back = position_distances(two, one)
    torch.testing.assert_close(js, js_back, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(tv, tv_back, rtol=1e-9, atol=1e-12)
    assert bool((kl >= -1e-12).all())
    assert bool((cross >= kl - 1e-9).all()), "an entropy is not negative"
    assert bool(((js >= -1e-12) & (js <= math.log(2) + 1e-12)).all())
    assert bool(((tv >= 0) & (tv <= 1 + 1e-12)).all())
    assert bool((tv**2 / 2 <= js + 1e-9).all()), "Pinsker, to the middle and back"
    shifted = position_distances(one + 7, two - 3)
    torch.testing.assert_close(shifted, position_distances(one, two), rtol=1e-9, atol=1e-9)
    entropy = position_distances(one, one)[0]
    torch.testing.assert_close(cross, entropy + kl, rtol=1e-9, atol=1e-9)


@given(**DRAWN)
@settings(max_examples=100)
def test_the_distance_of_a_state_from_itself_is_zero(
    positions: int, vocabulary: int, seed: int, spread: float
) -> None:
    one, _ = drawn(positions, vocabulary, seed, spread)
    for kind in (torch.float64, torch.float32, torch.bfloat16):
        _, kl, js, tv = position_distances(
            torch.tensor(one, dtype=kind), torch.tensor(one, dtype=kind)
        )
        assert not kl.any() and not js.any() and not tv.any(), "exactly"


def test_certain_and_disjoint_distributions_are_at_the_bounds() -> None:
    far = torch.tensor([[0.0, -math.inf]]), torch.tensor([[-math.inf, 0.0]])
    cross, kl, js, tv = position_distances(*far)[:, 0].tolist()
    assert cross == kl == math.inf
    assert (js, tv) == (pytest.approx(math.log(2)), 1.0)
    assert position_distances(far[0], far[0])[:, 0].tolist() == [0, 0, 0, 0]


# Models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[PreTrainedModel]:
    """Three states of two model families, the first two of the same."""
    root = tmp_path_factory.mktemp("models")
    made: list[Path] = []
    for family, seed in (("llama", 0), ("llama", 1), ("gemma", 0)):
        made.append(stand_ins.language_model(root / f"{family}-{seed}", family, seed))
    return [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in made]


def text(length: int, start: int) -> TokenizedText:
    rng = np.random.default_rng(length)
    return TokenizedText(tuple(int(i) for i in rng.integers(5, 300, length)), start)


TEXTS = [text(2, 1), text(9, 4), text(40, 1), text(130, 70), text(70, 69)]


def whole(model: PreTrainedModel, tokens: TokenizedText) -> Array:
    """Logits of a text read at once."""
    with torch.inference_mode():
        logits = model(torch.tensor([tokens.ids])).logits[0]
    return logits[tokens.start - 1 : -1].double().numpy()


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_reading_in_blocks_does_not_change_distances(
    models: list[PreTrainedModel], block: int
) -> None:
    found = text_distances(models[0], models[1], TEXTS, block)
    for tokens, distance in zip(TEXTS, found, strict=True):
        expected = naive(whole(models[0], tokens), whole(models[1], tokens)).mean(axis=1)
        measured = [getattr(distance, metric) for metric in METRICS]
        np.testing.assert_allclose(measured, expected, rtol=1e-5, atol=1e-5)
        assert distance.tokens == len(tokens.ids) - tokens.start
        assert distance.kl > 0.01, "the two states differ"


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_at_most_one_block_is_in_memory(models: list[PreTrainedModel], block: int) -> None:
    for tokens in TEXTS:
        held = [len(logits) for logits in blockwise_logits(models[2], tokens, block)]
        assert max(held) <= block and sum(held) == len(tokens.ids) - tokens.start


def test_the_distance_of_a_model_from_itself_is_zero(models: list[PreTrainedModel]) -> None:
    for distance in text_distances(models[2], models[2], TEXTS, 16):
        assert (distance.kl, distance.js, distance.tv) == (0, 0, 0)
        assert distance.cross_entropy > 1, "its entropy"


# The engine


def answer(i: int, response: str, reason: str = "stop") -> Answer:
    return Answer(i, 0, "the review begins", response, 1, reason, "teacher", 0, "some engine")


ANSWERS = [
    answer(0, " with a wonderful film"),
    answer(1, " and is cut", "length"),
    answer(2, ""),
    answer(3, "", "length"),
]
"""The third has the end token only, the last no token at all."""


def test_an_engine_compares_a_state_with_a_reference(tmp_path: Path) -> None:
    folders = {
        name: stand_ins.language_model(tmp_path / name, "llama", seed)
        for seed, name in enumerate(("student", "teacher", "other"))
    }
    weights = {name: Weights(name, str(folder)) for name, folder in folders.items()}
    engine = TransformersEngine(
        EngineConfig(
            "pairs", "transformers", str(folders["student"]), None, "student", "float32", 64
        )
    )
    models = {n: AutoModelForCausalLM.from_pretrained(f).eval() for n, f in folders.items()}
    known = AutoTokenizer.from_pretrained(folders["student"])

    def expected(answer: Answer, state: str, reference: str) -> Array:
        head = known(answer.prompt).input_ids
        tail = known(answer.response, add_special_tokens=False).input_ids
        end = [known.eos_token_id] if answer.finish_reason == "stop" else []
        tokens = TokenizedText(tuple(head + tail + end), len(head))
        return naive(whole(models[reference], tokens), whole(models[state], tokens)).mean(axis=1)

    async def compared(state: str, reference: str) -> list[DistanceResult]:
        await engine.load_weights(weights[state])
        return await engine.distances(weights[state], weights[reference], ANSWERS)

    for state, reference in (("student", "teacher"), ("other", "teacher"), ("other", "student")):
        found = asyncio.run(compared(state, reference))
        assert [each.prompt_index for each in found] == [0, 1, 2], "an empty answer is left out"
        assert found[2].tokens == 1
        for each, answer in zip(found, ANSWERS, strict=False):
            assert (each.held_state, each.reference) == (state, reference)
            told = [each.distances[metric] for metric in METRICS]
            np.testing.assert_allclose(told, expected(answer, state, reference), atol=1e-5)
    for each in asyncio.run(compared("teacher", "teacher")):
        assert [each.distances[metric] for metric in ("kl", "js", "tv")] == [0, 0, 0]
    with pytest.raises(EngineError, match="for state student, but the engine holds teacher"):
        asyncio.run(engine.distances(weights["student"], weights["teacher"], ANSWERS))


def test_states_with_adapters_are_compared(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    folders = [stand_ins.language_model(tmp_path / f"{i}", "llama", i) for i in range(2)]
    plain, other = (AutoModelForCausalLM.from_pretrained(folder).eval() for folder in folders)
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(plain, config).save_pretrained(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(folders[0]).eval()
    laid = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()

    adapted = Weights("lora", str(folders[0]), None, None, str(tmp_path / "adapter"), "full")
    teacher = Weights("teacher", str(folders[1]))
    place = str(folders[0])
    engine = TransformersEngine(
        EngineConfig("p", "transformers", place, None, "full", "float32", 64)
    )
    known = AutoTokenizer.from_pretrained(folders[0])
    tokens = tokenize_answer(known, ANSWERS[0], 64)
    assert tokens is not None

    async def compared(state: Weights, reference: Weights) -> DistanceResult:
        await engine.load_weights(state)
        return (await engine.distances(state, reference, ANSWERS[:1]))[0]

    for (state, model), (reference, wanted) in (
        ((adapted, laid), (teacher, other)),
        ((teacher, other), (adapted, laid)),
        ((adapted, laid), (adapted, laid)),
    ):
        found = asyncio.run(compared(state, reference))
        assert (found.held_state, found.reference) == (state.state_id, reference.state_id)
        told = [found.distances[metric] for metric in METRICS]
        expected = naive(whole(wanted, tokens), whole(model, tokens)).mean(axis=1)
        np.testing.assert_allclose(told, expected, atol=1e-5)


def test_changed_weights_of_a_reference_are_refused(tmp_path: Path) -> None:
    folder = stand_ins.language_model(tmp_path / "one", "llama", 0)
    weights = Weights("one", str(folder))
    engine = TransformersEngine(
        EngineConfig("p", "transformers", str(folder), None, "one", "float32", 64)
    )
    asyncio.run(engine.load_weights(weights))
    other = Weights("two", str(folder), checksum="0" * 64)
    with pytest.raises(CheckpointError, match="its weights do not match the recorded checksum"):
        asyncio.run(engine.distances(weights, other, ANSWERS))


@pytest.mark.parametrize(("length", "start"), [(1, 1), (5, 0), (5, 5)])
def test_a_text_without_a_position_to_compare_is_refused(length: int, start: int) -> None:
    with pytest.raises(EngineError, match=f"a text of {length} tokens: found start {start}"):
        TokenizedText(tuple(range(length)), start)


def test_states_of_different_vocabularies_are_refused() -> None:
    with pytest.raises(EngineError, match=r"shapes \(3, 5\) and \(3, 6\).*one vocabulary"):
        position_distances(torch.zeros(3, 5), torch.zeros(3, 6))
