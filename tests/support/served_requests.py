"""Serves three tiny states and a scorer with vLLM under Ray Serve, and collects their results.

`serve_all` runs everything that the tests of `tests/serving` check, on one cluster, with one engine
and one scorer, as each start takes long. `transformers` computes the expected values.
"""

from __future__ import annotations

import asyncio
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from elastic_ray.checkpoints.files import checkpoint_checksum
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

STATES = ("a", "b", "c")
EOS = load_task("reviews").tokenizer(None).eos_token_id
GREEDY = Sampling(1, 16, 0.0, 0, 1.0, 0)
SAMPLED = Sampling(2, 16, 1.0, 30, 0.9, 7)
PROMPTS = list(enumerate(load_task("reviews").prompts(12)))
LONG_PROMPTS = list(
    enumerate(
        " ".join(e.response.split()[:40]) for e in load_task("reviews").pool("positive")[:100]
    )
)
"""Together they have more tokens than vLLM reads at a time."""

SCORED_TEXTS = [e.response for e in load_task("reviews").pool("positive")[:20]] + [
    "the film is good . " * 40,  # longer than the classifier's context
    "good",
]

WINDOW = 24
CODED_TEXTS = [CodedText("", e.response) for e in load_task("reviews").texts("pretrain", 8)] + [
    CodedText("", ""),
    CodedText("", "the film is good . " * 30),  # longer than the engine's context
    CodedText("the film is", "good and the acting is never dull . " * 5),
    CodedText("", "words it does not know"),
]


@dataclass
class Served:
    """What the engine and the scorer returned."""

    root: Path
    weights: dict[str, Weights]
    greedy: list[tuple[str, list[Answer]]] = field(default_factory=list)
    """(state, its answers) of requests that ran at the same time."""
    after_refusal: list[tuple[str, list[Answer]]] = field(default_factory=list)
    """(state, its answers) after each request that was refused."""
    code_lengths: list[tuple[str, list[CodeLengthResult]]] = field(default_factory=list)
    sampled: dict[str, list[list[Answer]]] = field(default_factory=dict)
    """State -> its answers requested alone, and among other requests."""
    refusals: dict[str, str] = field(default_factory=dict)
    """State, or "too long" -> the error of the request."""
    long_batch: list[Answer] = field(default_factory=list)
    after_death: list[Answer] = field(default_factory=list)
    """Answers of state c after the engine's process was killed."""
    scores: list[Score] = field(default_factory=list)
    processes_left: list[str] = field(default_factory=list)
    """Engine processes after everything was closed."""


def make_checkpoints(root: Path) -> dict[str, Weights]:
    """Make three states of one architecture, an adapter on the first, and three damaged states."""
    tokenizer = load_task("reviews").tokenizer(None)
    config = model_config(Init(hidden_size=64, layers=2), tokenizer)
    config.initializer_range = 0.3  # wide, so that greedy answers differ between states
    weights = {}
    for seed, name in enumerate(STATES):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        weights[name] = Weights(name, str(root / name), None, checkpoint_checksum(root / name))
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(root / "a"),
        LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"),
    )
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    adapted.save_pretrained(root / "adapter")
    base = weights["a"]
    weights["lora"] = Weights(
        "lora", base.checkpoint, None, base.checksum, str(root / "adapter"), "a"
    )
    for name in ("truncated", "other"):
        shutil.copytree(root / "b", root / name)
    file = next((root / "truncated").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-100])
    weights["truncated"] = Weights("truncated", str(root / "truncated"), None, "0" * 64)
    weights["other"] = Weights("other", str(root / "other"), None, weights["c"].checksum)
    weights["missing"] = Weights("missing", str(root / "missing"), None, "0" * 64)
    return weights


def make_classifier(root: Path) -> None:
    """Make a RoBERTa with random weights, wide enough that its scores differ."""
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


def engine_config(weights: Weights, kind: str) -> EngineConfig:
    return EngineConfig(
        "engine", kind, weights.checkpoint, None, weights.state_id, "float32", 64, 8, cpus=1.0
    )


def scorer_config(root: Path, mode: str, kind: str) -> ScorerConfig:
    return ScorerConfig(f"scorer-{mode}", kind, str(root / "scorer"), None, mode, 1, cpus=0.5)


async def serve_all(root: Path) -> Served:
    """Run all requests, on the Ray cluster that this process has joined."""
    served = Served(root, make_checkpoints(root))
    weights = served.weights
    fleet = Fleet("test")
    try:
        await fleet.open_engine(engine_config(weights["a"], "vllm"))
        # Every state gets several requests, all at once: weights are swapped under load.
        turns = [name for _ in range(4) for name in (*STATES, "lora")]
        answers = await asyncio.gather(
            *(_answers(fleet, weights[name], GREEDY, chunk=5) for name in turns)
        )
        served.greedy = list(zip(turns, answers, strict=True))
        # Code lengths likewise, while other requests are for answers.
        lengths, _ = await asyncio.gather(
            asyncio.gather(*(_code_lengths(fleet, weights[name]) for name in turns)),
            asyncio.gather(*(_answers(fleet, weights[name], GREEDY) for name in turns)),
        )
        served.code_lengths = list(zip(turns, lengths, strict=True))
        for name in ("b", "lora"):
            alone = await _answers(fleet, weights[name], SAMPLED)
            crowded, *_ = await asyncio.gather(
                _answers(fleet, weights[name], SAMPLED, chunk=1),
                _answers(fleet, weights["c"], SAMPLED),
                _answers(fleet, weights[name], GREEDY),
            )
            served.sampled[name] = [alone, crowded]
        for name in ("truncated", "other", "missing"):
            served.refusals[name] = await _error(fleet, weights[name], GREEDY)
            served.after_refusal.append(("b", await _answers(fleet, weights["b"], GREEDY)))
        served.refusals["too long"] = await _error(
            fleet, weights["a"], Sampling(1, 62, 0.0, 0, 1.0, 0)
        )
        reply = await fleet.generate(
            "engine", weights["b"], LONG_PROMPTS, Sampling(1, 2, 1.0, 30, 0.9, 0)
        )
        served.long_batch = reply.items
        _kill_engine()
        served.after_death = await _answers(fleet, weights["c"], GREEDY)
        await fleet.close("engine")
        make_classifier(root)
        scorer = scorer_config(root, "share", "vllm")
        await fleet.open_scorer(scorer)
        served.scores = (await fleet.score(scorer.name, SCORED_TEXTS, chunk=7)).items
    finally:
        await fleet.shut_down()
    served.processes_left = [_command_line(process) for process in _engine_processes()]
    return served


async def _answers(
    fleet: Fleet, weights: Weights, sampling: Sampling, chunk: int = 512
) -> list[Answer]:
    reply = await fleet.generate("engine", weights, PROMPTS, sampling, chunk)
    assert reply.seconds > 0
    return reply.items


async def _code_lengths(fleet: Fleet, weights: Weights) -> list[CodeLengthResult]:
    return (await fleet.code_lengths("engine", weights, CODED_TEXTS, WINDOW, chunk=5)).items


async def _error(fleet: Fleet, weights: Weights, sampling: Sampling) -> str:
    try:
        await _answers(fleet, weights, sampling)
    except Exception as e:
        return str(e)
    return "answered"


def _engine_processes() -> list[Any]:
    """The processes of engines below this process: replicas, and what they start."""
    children = psutil.Process().children(recursive=True)
    names = ("EngineReplica", "EngineCore")
    return [process for process in children if any(n in _command_line(process) for n in names)]


def _command_line(process: Any) -> str:
    """A process's command line; empty for one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _kill_engine() -> None:
    processes = _engine_processes()
    assert processes, "no engine process was found"
    for process in processes:
        process.kill()


def _transformers_model(served: Served, name: str) -> tuple[Any, Any]:
    """The tokenizer and the model of a state, with its adapter if it has one."""
    weights = served.weights[name]
    tokenizer = AutoTokenizer.from_pretrained(weights.checkpoint)
    model = AutoModelForCausalLM.from_pretrained(weights.checkpoint).eval()
    if weights.adapter:
        model = PeftModel.from_pretrained(model, weights.adapter).eval()
    return tokenizer, model


def transformers_greedy(served: Served, name: str) -> list[str]:
    """transformers' own greedy continuation of each prompt, one at a time."""
    tokenizer, model = _transformers_model(served, name)
    texts = []
    for _, prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=GREEDY.max_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return texts


def transformers_code_lengths(served: Served, name: str) -> list[float]:
    """Bits of each text by transformers, one window at a time, in double precision."""
    tokenizer, model = _transformers_model(served, name)
    model = model.double()
    lengths = []
    for text in CODED_TEXTS:
        given = tokenizer(text.prompt).input_ids
        rest = [*tokenizer(text.response, add_special_tokens=False).input_ids, EOS]
        bits = 0.0
        while rest:
            coded, rest = rest[: WINDOW - len(given)], rest[WINDOW - len(given) :]
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([given + coded])).logits[0]
            log_probabilities = logits.log_softmax(-1)
            for i, token in enumerate(coded, start=len(given) - 1):
                bits -= float(log_probabilities[i, token]) / math.log(2)
            given = [tokenizer.bos_token_id]
        lengths.append(bits)
    return lengths
