"""LoRA stages: adapters over a full checkpoint (peft), continued, merged, and saved.

A LoRA stage after a full state puts new adapters on it; after a LoRA state of the same shape it
goes on with that state's adapters; anything else first merges them into the weights. A LoRA
checkpoint holds the adapters only, and notes which state's full weights lie below.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.files import CheckpointError
from ..results.store import Results
from ..spec import Lora
from .checkpoint_io import load_model, local_copy

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

NOTES = "elastic_ray.json"


def load_parent(
    results: Results, parent: str, lora: Lora | None, dtype: str, seed: int, trust: bool
) -> tuple[Any, str]:
    """(model ready for the stage, state id of the full weights below it).

    `CheckpointError` where the parent's checkpoint, or the one below its adapters, is not there.
    """
    with contextlib.ExitStack() as held:
        return _load_parent(results, parent, lora, dtype, seed, trust, held)


def _load_parent(
    results: Results,
    parent: str,
    lora: Lora | None,
    dtype: str,
    seed: int,
    trust: bool,
    held: contextlib.ExitStack,
) -> tuple[Any, str]:
    import torch

    place, revision = held.enter_context(place_of(results, parent))
    adapter = None
    if (Path(place) / "adapter_config.json").is_file():
        adapter = place
        base = str(json.loads((Path(place) / NOTES).read_text(encoding="utf-8"))["base_state"])
        place, revision = held.enter_context(place_of(results, base))
    else:
        base = parent
    model = load_model(place, revision, dtype, trust)
    if adapter is None and lora is None:
        return model, base
    from peft import PeftModel, get_peft_model

    if adapter is not None:
        goes_on = lora is not None and _same(adapter, lora)
        laid = PeftModel.from_pretrained(model, adapter, is_trainable=goes_on)
        if goes_on:
            return laid, base
        model, base = laid.merge_and_unload(), parent
        if lora is not None:
            raise CheckpointError(
                f"{parent} holds adapters of another shape than this stage's; a LoRA stage may "
                "follow a LoRA stage of the same rank, alpha and target_modules only"
            )
        return model, base
    assert lora is not None
    torch.manual_seed(seed)
    return get_peft_model(model, _config(lora)), base


@contextlib.contextmanager
def place_of(results: Results, state: str) -> Iterator[tuple[str, str | None]]:
    """(folder or hub id, revision) of a state's checkpoint, there until the context is left."""
    row = results.state(state)
    if row is None or row["status"] != "done":
        raise CheckpointError(f"state {state} is not recorded")
    if row["checkpoint"] is None:
        raise CheckpointError(f"the checkpoint of state {state} was deleted")
    with local_copy(results, row["checkpoint"]) as (place, revision):
        if revision is None and not Path(place).is_dir():
            raise CheckpointError(f"the checkpoint of state {state} is missing: {place}")
        yield place, revision


def _config(lora: Lora) -> LoraConfig:
    from peft import LoraConfig

    targets: Any = lora.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if targets == "all-linear" else list(targets),
    )


def _same(adapter: str, lora: Lora) -> bool:
    """Whether a saved adapter has the shape that this stage trains."""
    saved = json.loads((Path(adapter) / NOTES).read_text(encoding="utf-8"))["lora"]
    return bool(saved == lora.model_dump(mode="json", exclude={"dropout"}))


def notes(base: str, lora: Lora) -> dict[str, Any]:
    """What is written beside saved adapters."""
    return {"base_state": base, "lora": lora.model_dump(mode="json", exclude={"dropout"})}


def adapter_weights(model: PreTrainedModel, trained: dict[str, Any]) -> dict[str, Any]:
    """The gathered trainable tensors under the names that peft saves."""
    return {name.replace(".default.", "."): tensor for name, tensor in trained.items()}
