"""Questions to token ids and sampled ids to recorded answers, whatever the tokenizer does.

The reference for texts is the streaming decoder of the `tokenizers` library, which is what vLLM
shows; for answers it is transformers' own `generate`, one prompt at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers", reason="the training extra is not installed")

import stand_ins
import torch
from tokenizers import processors
from tokenizers.decoders import DecodeStream
from transformers import AutoModelForCausalLM, AutoTokenizer

from elastic_ray.serving.engines.answer_tokens import INCOMPLETE, answer_text
from elastic_ray.serving.engines.code_length import split_windows
from elastic_ray.serving.engines.distances import tokenize_answer
from elastic_ray.serving.engines.transformers_engine import TransformersEngine
from elastic_ray.serving.engines.vllm_runtime import vllm_environment, vllm_unavailable_reason
from elastic_ray.serving.errors import EngineError
from elastic_ray.serving.types import Answer, CodedText, EngineConfig, Sampling, Weights
from elastic_ray.tasks.prompt_tokens import prompt_ids, tokens_added_at_end
from elastic_ray.tasks.registry import load_task
from elastic_ray.tasks.task import Example
from elastic_ray.training.batches import IGNORED, tokenize

torch.set_num_threads(1)  # the models are tiny
ROOT = Path(__file__).parents[2]
KINDS = ("qwen2", "llama", "gemma", "words", "bytes")
TEXT = st.text(st.sampled_from("the film is good é€日本🎬 \n.,'</s>"), min_size=1, max_size=40)
SOME = settings(max_examples=60, deadline=None)


@cache
def tokenizer(kind: str, ends: bool = False) -> Any:
    """A tokenizer that adds its first token or none, and with `ends` an end token of its own."""
    if kind in ("words", "bytes"):
        made = load_task("reviews").tokenizer(None)
        if kind == "bytes":
            from elastic_ray.tasks.tokenizers import byte_pair_tokenizer

            made = byte_pair_tokenizer(["the film is good"], 300)
    else:
        made = stand_ins.tokenizer(kind)
    if ends:
        inner, end = made.backend_tokenizer, made.eos_token
        first = [made.bos_token] if made("a").input_ids[0] == made.bos_token_id else []
        inner.post_processor = processors.TemplateProcessing(
            single=" ".join([*first, "$A", end]),
            special_tokens=[
                (t, made.convert_tokens_to_ids(t)) for t in dict.fromkeys([*first, end])
            ],
        )
    return made


@SOME
@given(st.sampled_from(KINDS), st.lists(TEXT, min_size=1, max_size=3))
def test_no_token_stands_between_question_and_answer(kind: str, prompts: list[str]) -> None:
    plain, ending = tokenizer(kind), tokenizer(kind, ends=True)
    assert tokens_added_at_end(plain) == 0 and tokens_added_at_end(ending) == 1
    expected = [list(plain(prompt).input_ids) for prompt in prompts]
    assert prompt_ids(plain, prompts) == prompt_ids(ending, prompts) == expected
    taught = [Example(prompt, " yes") for prompt in prompts]
    for one, other in zip(tokenize(taught, plain, 64), tokenize(taught, ending, 64), strict=True):
        assert one == other, "training sees the same question"
        assert IGNORED in one.targets or not expected
    texts = [CodedText(prompt, "yes") for prompt in prompts]
    assert split_windows(ending, texts, 100, 128) == split_windows(plain, texts, 100, 128)
    answer = Answer(0, 0, prompts[0], " yes", 2, "stop", "s", 0, "e")
    assert tokenize_answer(ending, answer, 128) == tokenize_answer(plain, answer, 128)


def test_a_text_that_is_cut_does_not_end() -> None:
    """Where the tokenizer ends every text by itself, too."""
    cut = [Example("", "the film", ends=False)]
    (one,) = tokenize(cut, tokenizer("llama", ends=True), 64)
    assert one.ids == list(tokenizer("llama")("the film").input_ids)


@SOME
@given(st.sampled_from(KINDS), TEXT, st.lists(st.integers(0, 299), max_size=12))
def test_the_text_is_what_streaming_decoders_show(kind: str, prompt: str, ids: list[int]) -> None:
    known = tokenizer(kind)
    ids = [i % len(known) for i in ids]
    question = prompt_ids(known, [prompt])[0]
    stream = DecodeStream(skip_special_tokens=True)
    inner = known.backend_tokenizer
    for token in question:
        stream.step(inner, token)
    shown = "".join(filter(None, (stream.step(inner, token) for token in ids)))
    found = answer_text(known, question, ids)
    assert not found.endswith(INCOMPLETE)
    # The stream holds back a whole token of which only the last character is not complete.
    assert found.startswith(shown.rstrip(INCOMPLETE)) and len(found) - len(shown) < 12
    if not known.decode([*question, *ids]).endswith(INCOMPLETE):
        assert found == shown


def test_the_leading_space_stays_and_a_cut_character_goes() -> None:
    known = tokenizer("llama")
    question, whole = prompt_ids(known, ["the film", "the film is good"])
    assert whole[: len(question)] == question
    assert answer_text(known, question, whole[len(question) :]) == " is good"
    bytes_of = tokenizer("bytes")
    ids = bytes_of("good 🎬", add_special_tokens=False).input_ids
    question = prompt_ids(bytes_of, ["the film is "])[0]
    assert [
        answer_text(bytes_of, question, ids[:n]) for n in range(len(ids) - 4, len(ids) + 1)
    ] == [
        *["good "] * 4,
        "good 🎬",
    ]


PROMPTS = list(enumerate(["the film is", "a bad film .", "it", "the acting was never dull and"]))
GREEDY = Sampling(1, 12, 0.0, 0, 1.0, 0)


def model_folder(root: Path, family: str) -> Path:
    """A model whose tokenizer ends prompts, with several end tokens and other settings."""
    folder = stand_ins.language_model(root / family, family, 3)
    tokenizer(family, ends=True).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    known = AutoTokenizer.from_pretrained(folder)
    ends = {known.eos_token_id}
    for _, prompt in PROMPTS[:2]:  # tokens that the model does say
        ids = torch.tensor([prompt_ids(known, [prompt])[0]])
        out = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
        ends.add(int(out[min(4, len(out) - 1)]))
    told = {"eos_token_id": sorted(ends), "repetition_penalty": 1.7, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(told))
    return folder


def reference(folder: Path) -> list[tuple[list[int], str]]:
    """Tokens and finish reason by transformers' `generate`, without the other settings."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    known = AutoTokenizer.from_pretrained(folder)
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    found = []
    for _, prompt in PROMPTS:
        ids = torch.tensor([prompt_ids(known, [prompt])[0]])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=GREEDY.max_tokens,
            do_sample=False,
            repetition_penalty=1.0,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )[0, ids.shape[1] :].tolist()
        found.append((out, "stop" if out[-1] in ends else "length"))
    return found


def engine_of(folder: Path, kind: str) -> EngineConfig:
    return EngineConfig("e", kind, str(folder), None, "one", "float32", 64)


def answers_of(engine: Any, folder: Path, prompts: list[tuple[int, str]]) -> list[Answer]:
    weights = Weights("one", str(folder))

    async def answers() -> list[Answer]:
        await engine.load_weights(weights)
        return list(await engine.generate(weights, prompts, GREEDY))

    return asyncio.run(answers())


@pytest.mark.parametrize("family", stand_ins.FAMILIES)
def test_answers_end_at_every_end_token_of_the_model(family: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path, family)
    engine = TransformersEngine(engine_of(folder, "transformers"))
    found = answers_of(engine, folder, PROMPTS)
    expected = reference(folder)
    assert [(a.tokens, a.finish_reason) for a in found] == [(len(i), r) for i, r in expected]
    assert {a.finish_reason for a in found} >= {"stop"}
    known = tokenizer(family, ends=True)
    for answer, (ids, reason) in zip(found, expected, strict=True):
        question = prompt_ids(known, [answer.prompt])[0]
        kept = ids[:-1] if reason == "stop" else ids
        assert answer.response == answer_text(known, question, kept)
    with pytest.raises(EngineError, match="the context is 64"):
        long = Sampling(1, 63, 0.0, 0, 1.0, 0)
        asyncio.run(engine.generate(Weights("one", str(folder)), PROMPTS, long))


def test_a_prompt_without_tokens_is_refused(tmp_path: Path) -> None:
    folder = stand_ins.language_model(tmp_path / "one", "qwen2", 0)
    engine = TransformersEngine(engine_of(folder, "transformers"))
    with pytest.raises(EngineError, match="prompt 1 has no tokens"):
        asyncio.run(engine.generate(Weights("one", str(folder)), [(0, "a"), (1, "")], GREEDY))


MANY = [(i, text * n) for i, (text, n) in enumerate((t, n) for _, t in PROMPTS for n in (1, 2, 3))]


@pytest.mark.integration
def test_both_engines_record_the_same(tmp_path: Path) -> None:
    """Text, tokens, finish reason and seed, with an end token that the tokenizer adds, several end
    tokens, leading spaces and cut characters."""
    if (reason := vllm_unavailable_reason()) is not None:
        pytest.skip(f"vLLM is not available: {reason}")
    folder = model_folder(tmp_path, "llama")
    script = tmp_path / "served.py"
    script.write_text(f"""
import dataclasses, json, sys
from pathlib import Path
sys.path[:0] = {[str(ROOT), str(ROOT / "tests" / "support"), str(Path(__file__).parent)]}

if __name__ == "__main__":
    from test_answer_tokens import MANY, answers_of, engine_of
    from elastic_ray.serving.engines.engine import make_engine
    folder = Path(sys.argv[1])
    engine = make_engine(engine_of(folder, "vllm"))
    found = answers_of(engine, folder, MANY)
    print("found:" + json.dumps([dataclasses.asdict(each) for each in found]))
""")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)],
        env={**os.environ, **vllm_environment(engine_of(folder, "vllm"), threads=1)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("found:")]
    assert done.returncode == 0 and lines, done.stderr[-3000:]
    served = [Answer(**row) for row in json.loads(lines[-1].removeprefix("found:"))]
    assert {answer.engine.split()[0] for answer in served} == {"vllm"}
    assert {answer.finish_reason for answer in served} == {"stop", "length"}
    expected = answers_of(TransformersEngine(engine_of(folder, "transformers")), folder, MANY)
    assert [replace(a, engine="") for a in served] == [replace(a, engine="") for a in expected]
    assert len({answer.response for answer in served}) > len(MANY) // 2
