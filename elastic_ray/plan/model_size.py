"""Parameter counts of models, from their shape or their name."""

from __future__ import annotations

import os
import re

from ..spec import Init, Model

UNKNOWN_PARAMETERS = 1_000_000_000
"""Assumed for models whose size is unknown."""


def parameters(model: Model, vocabulary: int | None) -> int | None:
    """Return the parameters of a model, tied weights counted once; None where unknown.

    Exact for `init`, else as stated by the name of the repository or folder.
    """
    if model.init is None:
        folder = os.path.basename(os.path.abspath(model.path or ""))
        return parameters_in_name(model.hub or folder)
    return init_parameters(model.init, int(vocabulary or model.init.vocabulary or 4096))


def parameters_in_name(name: str) -> int | None:
    """Return the size stated in a model's name, e.g. 500_000_000 for "Qwen/Qwen1.5-0.5B", or None.

    Takes the largest number of billions or millions: in "Qwen2.5-7B-Instruct-1M" the 1M is a
    context length. Counts all experts of a mixture ("8x7B"), though they share some weights.
    """
    found = re.findall(r"(?<![\d.])(?:(\d+)x)?(\d+(?:\.\d+)?)([BbMm])(?![A-Za-z])", name)
    scale = {"b": 10**9, "m": 10**6}
    return max(
        (int(int(e or 1) * float(number) * scale[unit.lower()]) for e, number, unit in found),
        default=None,
    )


def init_parameters(init: Init, vocabulary: int) -> int:
    """Return the parameters of a random init, by transformers' architecture definitions."""
    h, inner = init.hidden_size, init.intermediate_used
    embeddings = vocabulary * h * (1 if init.tied else 2)
    if init.architecture == "gpt2":
        layer = 4 * h * h + 4 * h + 2 * h * inner + inner + h + 4 * h
        return embeddings + init.positions * h + init.layers * layer + 2 * h
    head = h // init.heads_used
    kv = (init.kv_heads or init.heads_used) * head
    layer = 2 * h * h + 2 * h * kv + 3 * h * inner + 2 * h
    layer += 2 * head if init.architecture == "qwen3" else 0
    return embeddings + init.layers * layer + h
