"""Parameter counts of models, from their shape, their files, or their name."""

from __future__ import annotations

import os
import re

from ..checkpoints.files import CheckpointError
from ..checkpoints.hub import cached_config
from ..checkpoints.model_files import stored_parameters
from ..spec import Init, Model

UNKNOWN_PARAMETERS = 1_000_000_000
"""Assumed for models whose size is unknown."""


def parameters(model: Model, vocabulary: int | None) -> int | None:
    """Return the parameters of a model, tied weights counted once; None where unknown.

    Exact for `init`, and by the files of a folder or of a hub model that this machine has. Else as
    stated by the name of the repository or folder.
    """
    if model.init is None:
        if (stored := stored_size(model)) is not None:
            return stored
        folder = os.path.basename(os.path.abspath(model.path or ""))
        return parameters_in_name(model.hub or folder)
    return init_parameters(model.init, int(vocabulary or model.init.vocabulary or 4096))


def stored_size(model: Model) -> int | None:
    """Return the parameters that a model's files hold; None if they are not here, or not usable."""
    folder = model.path
    if folder is None:
        config = cached_config(model.hub or "", model.revision or "")
        folder = os.path.dirname(config) if config else None
    try:
        return stored_parameters(folder) if folder else None
    except CheckpointError:
        return None


def parameters_in_name(name: str) -> int | None:
    """Return the size stated in a model's name, e.g. 500_000_000 for "Qwen/Qwen1.5-0.5B", or None.

    Takes the largest number of billions or millions: in "Qwen2.5-7B-Instruct-1M" the 1M is a
    context length. What follows a training step is a number of tokens: "1.1B-step-50K-105b" has
    1.1 billion parameters. Counts all experts of a mixture ("8x7B"), though they share some
    weights.
    """
    before_step = re.split(r"(?i)[-_]step[-_]?\d", name)[0]
    return _largest(before_step) or _largest(name)


def _largest(name: str) -> int | None:
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
