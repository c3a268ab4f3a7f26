"""Batches of questions of different lengths are answered as transformers answers each alone."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("transformers", reason="the training extra is not installed")

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from elastic_ray.serving.engines.code_length import Window
from elastic_ray.serving.engines.transformers_inference import sample_batch, window_nats
from elastic_ray.serving.types import Sampling

torch.set_num_threads(1)  # the models are tiny
KINDS = (
    *("bloom", "falcon", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral"),
    *("olmo", "olmo2", "opt", "phi", "phi3", "qwen2", "qwen3", "smollm3", "stablelm"),
)
VOCABULARY, END = 60, 7
QUESTIONS = [[3, 5, 9, 11, 20, 8], [4], [12, 30, 2], [9, 9, 9, 9, 1, 2, 33, 41, 50], [59, 58]]
GREEDY = Sampling(1, 10, 0.0, 0, 1.0, 0)


def model_of(kind: str) -> Any:
    """A tiny model of a kind, whose greedy answers differ."""
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    size |= {"intermediate_size": 64, "vocab_size": VOCABULARY, "max_position_embeddings": 64}
    tokens = {"bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0}
    own: dict[str, dict[str, Any]] = {
        "bloom": {"n_layer": 2, "n_head": 2},
        "falcon": {"alibi": True, "new_decoder_architecture": False},
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
        "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
        "gemma": {"head_dim": 16, "num_key_value_heads": 1},
        "gemma2": {"head_dim": 16, "num_key_value_heads": 1, "sliding_window": 4},
        "gemma3_text": {"head_dim": 16, "num_key_value_heads": 1, "sliding_window": 4},
        "mistral": {"num_key_value_heads": 1, "sliding_window": 4},
        "qwen2": {"num_key_value_heads": 2},
        "qwen3": {"head_dim": 16, "num_key_value_heads": 1},
        "smollm3": {"num_key_value_heads": 1},
        "stablelm": {"num_key_value_heads": 2},
        "phi3": {"num_key_value_heads": 2, "pad_token_id": 0},
    }
    torch.manual_seed(5)
    config = AutoConfig.for_model(kind, **(size | tokens | own.get(kind, {})))
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.25)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_answered_as_each_question_alone(kind: str) -> None:
    model = model_of(kind)
    seeds = list(range(len(QUESTIONS)))
    found = sample_batch(model, QUESTIONS, seeds, GREEDY, {END, 8})
    expected = []
    for question in QUESTIONS:
        ids = torch.tensor([question])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=GREEDY.max_tokens,
            do_sample=False,
            eos_token_id=[END, 8],
        )
        expected.append(out[0, len(question) :].tolist())
    assert found == expected
    assert len({tuple(ids) for ids in found}) > 1, "answers differ"


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_a_batch_are_read_as_each_alone(kind: str) -> None:
    model = model_of(kind)
    windows = [Window(i, ids, 1) for i, ids in enumerate(QUESTIONS) if len(ids) > 1]
    for window, nats in zip(windows, window_nats(model, windows), strict=True):
        ids = torch.tensor([window.ids])
        with torch.inference_mode():
            whole = model(input_ids=ids).logits.float().log_softmax(-1)[0, :-1]
        alone = -float(whole.gather(-1, ids[0, 1:, None]).double().sum())
        assert nats == pytest.approx(alone, abs=1e-4)
