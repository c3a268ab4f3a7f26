"""Strict loading of LoRA adapters (peft): their tensors are those of the model that they adapt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .architecture import quiet
from .files import CheckpointError
from .mismatch import Mismatch, describe
from .model_files import ADAPTER, read_header


def load_adapter(model: Any, folder: str | Path, trainable: bool = False) -> Any:
    """Return `model` with the adapters of `folder` on top, to train them or to use them.

    Raises `CheckpointError` if they are missing, damaged, or do not fit the model; peft itself only
    warns.
    """
    from peft import PeftModel, get_peft_model_state_dict

    stored = {name: each.shape for name, each in read_header(Path(folder) / ADAPTER).items()}
    try:
        with quiet():
            adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except Exception as e:
        reason = " ".join(str(e).split())[:300]
        raise CheckpointError(f"{folder}: cannot be loaded: {type(e).__name__}: {reason}") from e
    own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    asked = {name: tuple(tensor.shape) for name, tensor in own.items()}
    different = Mismatch(
        sorted(asked.keys() - stored.keys()),
        sorted(stored.keys() - asked.keys()),
        [
            (n, stored[n], asked[n])
            for n in sorted(stored.keys() & asked.keys())
            if stored[n] != asked[n]
        ],
    )
    if different:
        raise CheckpointError(f"{folder}: {describe(different, 'its adapter_config.json', ())}")
    return adapted.eval() if not trainable else adapted
