"""The architectures that are trained, swapped under vLLM and answered in tests, as tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

_GQA = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "max_position_embeddings": 256,
}
_PLAIN = {name: value for name, value in _GQA.items() if name != "num_key_value_heads"}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _GQA),
    "mistral": ("mistral", {**_GQA, "head_dim": 32}),
    "qwen2": ("qwen2", _GQA),
    "qwen2.5": ("qwen2", {**_GQA, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {**_GQA, "head_dim": 32}),
    "smollm3": ("smollm3", {**_GQA, "tie_word_embeddings": True}),
    "gemma2": ("gemma2", {**_GQA, "head_dim": 32, "query_pre_attn_scalar": 32}),
    "gemma3": ("gemma3_text", {**_GQA, "head_dim": 32, "query_pre_attn_scalar": 32}),
    "olmo": ("olmo", {**_GQA, "num_key_value_heads": 2}),
    "olmo2": ("olmo2", _GQA),
    "phi": ("phi", {**_PLAIN, "partial_rotary_factor": 0.5}),
    "gpt-neox": ("gpt_neox", {**_PLAIN, "rotary_pct": 0.25}),
    "bloom": ("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 2}),
    "falcon": (
        "falcon",
        {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"num_kv_heads": 2, "new_decoder_architecture": True, "alibi": False},
    ),
    "gpt2": ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 256}),
    "opt": (
        "opt",
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 128}
        | {"max_position_embeddings": 256, "word_embed_proj_dim": 64},
    ),
}
"""Name -> its model type in transformers, and the shape of the tiny model."""


def write_model(folder: Path, name: str, tokenizer: Any, seed: int) -> Path:
    """Write a tiny model of an architecture, with wide random weights, biases and norms.

    The vocabulary is larger than the tokenizer's and no multiple of vLLM's padding.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, shape = ARCHITECTURES[name]
    tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    tokens |= {"pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(
        model_type, **{"vocab_size": len(tokenizer) + 5, **tokens, **shape}
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
