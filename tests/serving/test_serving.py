"""Serving on the real stack: vLLM under Ray Serve, swapped under load, against transformers.

One cluster, one engine and one scorer serve everything that the tests ask about.
"""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

psutil = pytest.importorskip("psutil", reason="the training extra is not installed")
pytest.importorskip("ray", reason="the training extra is not installed")

import ray
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from elastic_ray.checkpoints.files import checkpoint_checksum
from elastic_ray.serving.engines.scorer import make_scorer_backend
from elastic_ray.serving.engines.transformers_engine import TransformersEngine
from elastic_ray.serving.engines.vllm_engine import BATCH_TOKENS
from elastic_ray.serving.engines.vllm_runtime import vllm_unavailable_reason
from elastic_ray.serving.errors import EngineError
from elastic_ray.serving.fleet import Fleet
from elastic_ray.serving.types import (
    Answer,
    CodedText,
    CodeLengthResult,
    EngineConfig,
    Sampling,
    Score,
    ScorerConfig,
    Weights,
)
from elastic_ray.spec import Init
from elastic_ray.tasks.registry import load_task
from elastic_ray.training.start_states import model_config

pytestmark = pytest.mark.skipif(
    vllm_unavailable_reason() is not None,
    reason=f"vLLM is not available: {vllm_unavailable_reason()}",
)

STATES = ("a", "b", "c")
EOS = load_task("reviews").tokenizer(None).eos_token_id
GREEDY = Sampling(1, 16, 0.0, 0, 1.0, 0)
DRAWN = Sampling(2, 16, 1.0, 30, 0.9, 7)
PROMPTS = list(enumerate(load_task("reviews").prompts(12)))


# More tokens than are read at once.
MANY = list(
    enumerate(
        " ".join(e.response.split()[:40]) for e in load_task("reviews").pool("positive")[:100]
    )
)


@dataclass
class Served:
    """What the engine and the scorer answered."""

    root: Path
    weights: dict[str, Weights]
    greedy: list[tuple[str, list[Answer]]] = field(default_factory=list)
    again: list[tuple[str, list[Answer]]] = field(default_factory=list)
    lengths: list[tuple[str, list[CodeLengthResult]]] = field(default_factory=list)
    drawn: dict[str, list[list[Answer]]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    many: list[Answer] = field(default_factory=list)
    after_death: list[Answer] = field(default_factory=list)
    scores: dict[str, list[Score]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def checkpoints(root: Path) -> dict[str, Weights]:
    """Three states of one architecture, an adapter over the first, and three that are damaged."""
    tokenizer = load_task("reviews").tokenizer(None)
    shape = model_config(Init(hidden_size=64, layers=2), tokenizer)
    shape.initializer_range = 0.3  # wide, so that greedy answers differ between states
    found = {}
    for seed, name in enumerate(STATES):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(shape)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        found[name] = Weights(name, str(root / name), None, checkpoint_checksum(root / name))
    laid = get_peft_model(
        AutoModelForCausalLM.from_pretrained(root / "a"),
        LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"),
    )
    with torch.no_grad():
        for name, parameter in laid.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    laid.save_pretrained(root / "adapter")
    base = found["a"]
    found["lora"] = Weights(
        "lora", base.checkpoint, None, base.checksum, str(root / "adapter"), "a"
    )
    for name in ("truncated", "other"):
        shutil.copytree(root / "b", root / name)
    file = next((root / "truncated").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-100])
    found["truncated"] = Weights("truncated", str(root / "truncated"), None, "0" * 64)
    found["other"] = Weights("other", str(root / "other"), None, found["c"].checksum)
    found["missing"] = Weights("missing", str(root / "missing"), None, "0" * 64)
    return found


def classifier(root: Path) -> Path:
    """A RoBERTa of random weights, wide enough that its scores differ."""
    tokenizer = load_task("reviews").tokenizer(None)
    torch.manual_seed(0)
    RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=128,
            max_position_embeddings=66,
            type_vocab_size=1,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.3,
            num_labels=2,
        )
    ).save_pretrained(root / "scorer")
    tokenizer.save_pretrained(root / "scorer")
    return root / "scorer"


TEXTS = [e.response for e in load_task("reviews").pool("positive")[:20]] + [
    "the film is good . " * 40,  # longer than the classifier takes
    "good",
]


WINDOW = 24
CODED = [CodedText("", e.response) for e in load_task("reviews").texts("pretrain", 8)] + [
    CodedText("", ""),
    CodedText("", "the film is good . " * 30),  # longer than the engine's context
    CodedText("the film is", "good and the acting is never dull . " * 5),
    CodedText("", "words it does not know"),
]


def backend(root: Path, mode: str, kind: str) -> ScorerConfig:
    return ScorerConfig(f"judge-{mode}", kind, str(root / "scorer"), None, mode, cpus=0.5)


async def serve_all(root: Path) -> Served:
    served = Served(root, checkpoints(root))
    weights = served.weights
    fleet = Fleet("test")
    config = EngineConfig(
        "engine", "vllm", weights["a"].checkpoint, None, "a", "float32", 64, 8, cpus=1.0
    )
    try:
        await fleet.open_engine(config)
        # Every state is asked several times, all at once: swaps happen under load.
        turns = [name for _ in range(4) for name in (*STATES, "lora")]
        answers = await asyncio.gather(
            *(ask(fleet, weights[name], GREEDY, chunk=5) for name in turns)
        )
        served.greedy = list(zip(turns, answers, strict=True))
        # Code lengths likewise, while others ask for answers.
        lengths, _ = await asyncio.gather(
            asyncio.gather(*(lengths_of(fleet, weights[name]) for name in turns)),
            asyncio.gather(*(ask(fleet, weights[name], GREEDY) for name in turns)),
        )
        served.lengths = list(zip(turns, lengths, strict=True))
        for name in ("b", "lora"):
            alone = await ask(fleet, weights[name], DRAWN)
            crowd = await asyncio.gather(
                ask(fleet, weights[name], DRAWN, chunk=1),
                ask(fleet, weights["c"], DRAWN),
                ask(fleet, weights[name], GREEDY),
            )
            served.drawn[name] = [alone, crowd[0]]
        for name in ("truncated", "other", "missing"):
            served.refused[name] = await refusal(fleet, weights[name], GREEDY)
            served.again.append(("b", await ask(fleet, weights["b"], GREEDY)))
        served.refused["too long"] = await refusal(
            fleet, weights["a"], Sampling(1, 62, 0.0, 0, 1.0, 0)
        )
        reply = await fleet.generate("engine", weights["b"], MANY, Sampling(1, 2, 1.0, 30, 0.9, 0))
        served.many = reply.items
        kill_engine()
        served.after_death = await ask(fleet, weights["c"], GREEDY)
        await fleet.close("engine")
        classifier(root)
        share = backend(root, "share", "vllm")
        await fleet.open_scorer(share)
        served.scores["share"] = (await fleet.score(share.name, TEXTS, chunk=7)).items
    finally:
        await fleet.shut_down()
    return served


async def ask(fleet: Fleet, weights: Weights, sampling: Sampling, chunk: int = 512) -> list[Answer]:
    reply = await fleet.generate("engine", weights, PROMPTS, sampling, chunk)
    assert reply.seconds > 0
    return reply.items


async def lengths_of(fleet: Fleet, weights: Weights) -> list[CodeLengthResult]:
    return (await fleet.code_lengths("engine", weights, CODED, WINDOW, chunk=5)).items


async def refusal(fleet: Fleet, weights: Weights, sampling: Sampling) -> str:
    try:
        await ask(fleet, weights, sampling)
    except Exception as e:
        return str(e)
    return "answered"


def engines() -> list[Any]:
    """This test's vLLM engine processes."""
    family = psutil.Process().children(recursive=True)
    return [p for p in family if "EngineCore" in called(p)]


def called(process: Any) -> str:
    """A process's command line; empty for one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill_engine() -> None:
    found = engines()
    assert found, "no engine process is there to be killed"
    for process in found:
        process.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from ray import serve

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        found = asyncio.run(serve_all(tmp_path_factory.mktemp("served")))
        found.left = [called(p) for p in engines()]
        yield found
    finally:
        serve.shutdown()
        ray.shutdown()


def plain_greedy(served: Served, name: str) -> list[str]:
    """transformers' own greedy continuation of each prompt, one at a time."""
    weights = served.weights[name]
    tokenizer = AutoTokenizer.from_pretrained(weights.checkpoint)
    model = AutoModelForCausalLM.from_pretrained(weights.checkpoint).eval()
    if weights.adapter:
        model = PeftModel.from_pretrained(model, weights.adapter).eval()
    found = []
    for _, prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=GREEDY.max_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        found.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return found


def test_greedy_answers_equal_transformers_after_swaps_under_load(served: Served) -> None:
    expected = {name: plain_greedy(served, name) for name in (*STATES, "lora")}
    assert len({tuple(texts) for texts in expected.values()}) == 4, "the states must differ"
    assert len(served.greedy) == 16
    for name, answers in (*served.greedy, *served.again):
        assert [a.response.strip() for a in answers] == expected[name], name
        assert [a.prompt_index for a in answers] == [i for i, _ in PROMPTS]
    assert [a.response.strip() for a in served.after_death] == expected["c"]


def plain_lengths(served: Served, name: str) -> list[float]:
    """Bits of each text by transformers, one window at a time, in double precision."""
    weights = served.weights[name]
    tokenizer = AutoTokenizer.from_pretrained(weights.checkpoint)
    model = AutoModelForCausalLM.from_pretrained(weights.checkpoint).eval()
    if weights.adapter:
        model = PeftModel.from_pretrained(model, weights.adapter).eval()
    model = model.double()
    found = []
    for text in CODED:
        given = tokenizer(text.prompt).input_ids
        left = [*tokenizer(text.response, add_special_tokens=False).input_ids, EOS]
        bits = 0.0
        while left:
            taken, left = left[: WINDOW - len(given)], left[WINDOW - len(given) :]
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([given + taken])).logits[0]
            chances = logits.log_softmax(-1)
            for i, token in enumerate(taken, start=len(given) - 1):
                bits -= float(chances[i, token]) / math.log(2)
            given = [tokenizer.bos_token_id]
        found.append(bits)
    return found


def test_code_lengths_equal_transformers_after_swaps_under_load(served: Served) -> None:
    expected = {name: plain_lengths(served, name) for name in (*STATES, "lora")}
    assert len(served.lengths) == 16
    for name, lengths in served.lengths:
        # 1e-4 of a bit a token; the text longer than the context is 180 tokens.
        assert [m.bits / m.tokens for m in lengths] == [
            pytest.approx(bits / m.tokens, abs=1e-4)
            for bits, m in zip(expected[name], lengths, strict=True)
        ]
        assert {m.held_state for m in lengths} == {name}
        assert [m.bytes for m in lengths] == [len(t.response.encode()) for t in CODED]
        words = [len(t.response.split()) for t in CODED]
        assert [m.tokens for m in lengths] == [n + 1 for n in words], "the end counts"


def test_every_answer_carries_the_state_that_the_engine_held(served: Served) -> None:
    for name, answers in (*served.greedy, *served.again, ("c", served.after_death)):
        assert {a.held_state for a in answers} == {name}
        assert {a.engine.split()[0] for a in answers} == {"vllm"}


def test_drawn_answers_repeat_whatever_else_is_asked(served: Served) -> None:
    for alone, crowded in served.drawn.values():
        assert alone == crowded
        assert [(a.prompt_index, a.sample) for a in alone] == [
            (i, s) for i, _ in PROMPTS for s in range(2)
        ]
        assert len({a.response for a in alone}) > len(PROMPTS), "samples differ"


def test_damaged_weights_are_refused_and_the_engine_goes_on(served: Served) -> None:
    assert "not those on record" in served.refused["truncated"]
    assert "not those on record" in served.refused["other"]
    assert "missing" in served.refused["missing"]
    assert [name for name, _ in served.again] == ["b"] * 3


def test_an_answer_that_cannot_fit_is_refused_not_cut(served: Served) -> None:
    assert "the context is 64" in served.refused["too long"]


def test_a_closed_engine_leaves_no_process(served: Served) -> None:
    assert served.left == []


def test_the_transformers_engine_gives_the_same_greedy_answers(served: Served) -> None:
    async def ask() -> dict[str, list[Answer]]:
        a = served.weights["a"]
        config = EngineConfig("plain", "transformers", a.checkpoint, None, "a", "float32", 64, 8)
        engine = TransformersEngine(config)
        found = {}
        for name in ("a", "lora", "c", "a"):
            await engine.load_weights(served.weights[name])
            found[name] = await engine.generate(served.weights[name], PROMPTS, GREEDY)
        return found

    for name, answers in asyncio.run(ask()).items():
        assert [a.response.strip() for a in answers] == plain_greedy(served, name), name
        assert {a.held_state for a in answers} == {name}


def test_the_transformers_engine_gives_the_same_code_lengths(served: Served) -> None:
    async def measure() -> dict[str, list[CodeLengthResult]]:
        a = served.weights["a"]
        config = EngineConfig("plain", "transformers", a.checkpoint, None, "a", "float32", 64, 8)
        engine = TransformersEngine(config)
        found = {}
        for name in ("a", "lora", "c"):
            await engine.load_weights(served.weights[name])
            found[name] = await engine.code_lengths(served.weights[name], CODED, WINDOW)
        with pytest.raises(EngineError, match="window is 64; the context is 64"):
            await engine.code_lengths(served.weights["c"], CODED, 64)
        with pytest.raises(EngineError, match="text 10: its prompt takes 4 tokens"):
            await engine.code_lengths(served.weights["c"], CODED, 4)
        return found

    for name, lengths in asyncio.run(measure()).items():
        assert [m.bits / m.tokens for m in lengths] == [
            pytest.approx(bits / m.tokens, abs=1e-4)
            for bits, m in zip(plain_lengths(served, name), lengths, strict=True)
        ]
        assert {m.held_state for m in lengths} == {name}


def test_scores_equal_transformers(served: Served) -> None:
    place = served.root / "scorer"
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForSequenceClassification.from_pretrained(place).eval()
    for text, score in zip(TEXTS, served.scores["share"], strict=True):
        ids = tokenizer(text, truncation=True, max_length=64, return_tensors="pt").input_ids
        with torch.inference_mode():
            expected = float(model(input_ids=ids).logits.softmax(-1)[0, 1])
        assert score.probability == pytest.approx(expected, abs=1e-5)
        assert score.score == float(expected > 0.5)
    assert len({s.score for s in served.scores["share"]}) == 2


def test_the_transformers_scorer_gives_the_same_scores(served: Served) -> None:
    plain = asyncio.run(
        make_scorer_backend(backend(served.root, "share", "transformers")).score(TEXTS)
    )
    for one, other in zip(plain, served.scores["share"], strict=True):
        assert one.score == other.score
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
    means = asyncio.run(
        make_scorer_backend(backend(served.root, "mean", "transformers")).score(TEXTS)
    )
    assert [m.score for m in means] == [pytest.approx(p.probability, abs=1e-6) for p in plain]


def test_more_prompts_than_are_read_at_once_are_all_answered(served: Served) -> None:
    words = sum(len(prompt.split()) for _, prompt in MANY)
    assert words > BATCH_TOKENS
    assert [answer.prompt_index for answer in served.many] == list(range(len(MANY)))
