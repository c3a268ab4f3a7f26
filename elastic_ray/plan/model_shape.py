"""Shapes of language models: what their memory depends on besides their number of parameters.

The shape of an `init` is exact. That of a hub model or folder comes from its configuration where
this machine has it, else from a table of public models, else it is interpolated from the number of
parameters in its files or its name. Reads `config.json` files and the headers of weight files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..checkpoints.hub import cached_config
from ..spec import Init, Model
from .model_size import init_parameters, parameters, stored_size


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Widths and counts of a decoder with gated feed-forward layers (as Llama's).

    `attention` is heads x width of a head, `key_values` the same of keys alone. `parameters` counts
    tied embeddings once.
    """

    parameters: int
    hidden: int
    layers: int
    intermediate: int
    heads: int
    attention: int
    key_values: int
    vocabulary: int
    tied: bool

    def adapter_parameters(self, rank: int, targets: str | tuple[str, ...]) -> int:
        """Return the parameters of LoRA adapters; names of modules are those of Llama."""
        h, a, kv, inner = self.hidden, self.attention, self.key_values, self.intermediate
        sides = {"q_proj": h + a, "k_proj": h + kv, "v_proj": h + kv, "o_proj": a + h}
        sides |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), h + inner)
        chosen = [n for name, n in sides.items() if targets == "all-linear" or name in targets]
        # A model with other names: as if all of its layers had adapters.
        return self.layers * rank * sum(chosen or sides.values())


def _shape(
    hidden: int,
    layers: int,
    intermediate: int,
    heads: int,
    kv_heads: int,
    vocabulary: int,
    tied: bool = False,
    head: int | None = None,
) -> ModelShape:
    width = head or hidden // heads
    a, kv = heads * width, kv_heads * width
    layer = 2 * hidden * a + 2 * hidden * kv + 3 * hidden * intermediate + 2 * hidden
    total = vocabulary * hidden * (1 if tied else 2) + layers * layer + hidden
    return ModelShape(total, hidden, layers, intermediate, heads, a, kv, vocabulary, tied)


KNOWN: Mapping[str, ModelShape] = {
    r"qwen1\.5-0\.5b": _shape(1024, 24, 2816, 16, 16, 151_936, tied=True),
    r"qwen1\.5-1\.8b": _shape(2048, 24, 5504, 16, 16, 151_936),
    r"qwen1\.5-4b": _shape(2560, 40, 6912, 20, 20, 151_936),
    r"qwen1\.5-7b": _shape(4096, 32, 11_008, 32, 32, 151_936),
    r"qwen1\.5-14b": _shape(5120, 40, 13_696, 40, 40, 152_064),
    r"qwen2\.5-0\.5b|qwen2-0\.5b": _shape(896, 24, 4864, 14, 2, 151_936, tied=True),
    r"qwen2\.5-1\.5b|qwen2-1\.5b": _shape(1536, 28, 8960, 12, 2, 151_936, tied=True),
    r"qwen2\.5-3b": _shape(2048, 36, 11_008, 16, 2, 151_936, tied=True),
    r"qwen2\.5-7b|qwen2-7b": _shape(3584, 28, 18_944, 28, 4, 152_064),
    r"tinyllama": _shape(2048, 22, 5632, 32, 4, 32_000),
    r"gemma-2b": _shape(2048, 18, 16_384, 8, 1, 256_000, tied=True, head=256),
    r"gemma-7b": _shape(3072, 28, 24_576, 16, 16, 256_000, tied=True, head=256),
    r"gemma-2-2b": _shape(2304, 26, 9216, 8, 4, 256_000, tied=True, head=256),
    r"gemma-2-9b": _shape(3584, 42, 14_336, 16, 8, 256_000, tied=True, head=256),
    r"llama-?2-7b|alpaca-7b|beaver-7b|vicuna-7b": _shape(4096, 32, 11_008, 32, 32, 32_000),
    r"llama-?2-13b": _shape(5120, 40, 13_824, 40, 40, 32_000),
    r"llama-?3(\.1)?-8b": _shape(4096, 32, 14_336, 32, 8, 128_256),
    r"llama-?3\.2-1b": _shape(2048, 16, 8192, 32, 8, 128_256, tied=True),
    r"llama-?3\.2-3b": _shape(3072, 28, 8192, 24, 8, 128_256, tied=True),
    r"mistral-7b": _shape(4096, 32, 14_336, 32, 8, 32_000),
}
"""Public models, by a pattern of their names in lower case. From their `config.json` on the hub."""

_VOCABULARIES = {
    "gemma": 256_000,
    "llama-3": 128_256,
    "llama3": 128_256,
    "llama": 32_000,
    "mistral": 32_000,
}
"""Vocabulary by family: the first whose name is part of the model's."""
_LARGEST_USUAL = 151_936
"""Vocabulary assumed for a model of unknown family: Qwen's, a large one."""


def shape_of(model: Model, vocabulary: int | None) -> ModelShape | None:
    """Return a model's shape, None where nothing about its size is known.

    `vocabulary` is that of the tokenizer, for a model trained from scratch.
    """
    if model.init is not None:
        return _of_init(model.init, int(vocabulary or model.init.vocabulary or 4096))
    config = _config(model)
    stored = stored_size(model)
    if config is not None and (shape := of_config(config)) is not None:
        return replace(shape, parameters=stored or shape.parameters)
    name = (model.hub or Path(model.path or "").resolve().name).lower()
    known = (shape for pattern, shape in KNOWN.items() if re.search(pattern, name))
    if stored is None and (found := next(known, None)) is not None:
        return found
    size = stored or parameters(model, None)
    return None if size is None else interpolated(size, name)


def of_config(config: Mapping[str, Any]) -> ModelShape | None:
    """Return the shape that a `config.json` describes; None if it lacks what this needs."""
    try:
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        heads, vocabulary = int(config["num_attention_heads"]), int(config["vocab_size"])
        return _shape(
            hidden,
            layers,
            int(config["intermediate_size"]),
            heads,
            int(config.get("num_key_value_heads") or heads),
            vocabulary,
            bool(config.get("tie_word_embeddings", False)),
            int(config["head_dim"]) if config.get("head_dim") else None,
        )
    except (KeyError, TypeError, ValueError):
        return None


def interpolated(size: int, name: str) -> ModelShape:
    """Return a shape of `size` parameters with the proportions that such models usually have.

    Of the models of 0.5 to 14 billion parameters in `KNOWN`, the width is about 1480 x billions to
    the power of 0.48, and the feed-forward layers are 2.7 times as wide.
    """
    vocabulary = next((v for k, v in _VOCABULARIES.items() if k in name), _LARGEST_USUAL)
    hidden = max(64, round(1480 * (size / 1e9) ** 0.483 / 64) * 64)
    inner, heads = round(2.7 * hidden / 64) * 64, max(1, hidden // 128)
    tied = 2 * vocabulary * hidden > 0.4 * size
    layer = 4 * hidden * hidden + 3 * hidden * inner
    embeddings = vocabulary * hidden * (1 if tied else 2)
    layers = max(2, round((size - embeddings) / layer))
    return ModelShape(size, hidden, layers, inner, heads, hidden, hidden, vocabulary, tied)


def _of_init(init: Init, vocabulary: int) -> ModelShape:
    width = init.hidden_size // init.heads_used
    kv_heads = init.kv_heads or init.heads_used
    return ModelShape(
        init_parameters(init, vocabulary),
        init.hidden_size,
        init.layers,
        init.intermediate_used,
        init.heads_used,
        init.hidden_size,
        kv_heads * width,
        vocabulary,
        init.tied,
    )


def _config(model: Model) -> Mapping[str, Any] | None:
    """Return a model's configuration, from its folder or this machine's cache of the hub."""
    file: str | Path | None
    if model.path is not None:
        file = Path(model.path) / "config.json"
    else:
        file = cached_config(model.hub or "", model.revision or "")
    try:
        text = Path(file).read_text(encoding="utf-8") if file else ""
        config = json.loads(text) if text else None
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None
