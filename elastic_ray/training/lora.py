"""LoRA adapters over a full checkpoint (peft): created, continued, merged and saved.

A LoRA stage after a full state creates new adapters on it. After a LoRA state of the same shape it
continues that state's adapters. A full stage after a LoRA state first merges the adapters into the
weights. A LoRA checkpoint holds the adapters only, and names the state whose full weights they
apply to.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.adapter import load_adapter
from ..checkpoints.files import CheckpointError
from ..checkpoints.known_checksums import KnownChecksums
from ..checkpoints.reference import CheckpointReference
from ..results.storage.node_cache import cache_folder
from ..spec import Lora
from .checkpoint_io import METADATA_FILE, load_model, local_copy

if TYPE_CHECKING:
    from peft import LoraConfig

    from ..results.store import Results


def load_parent(
    results: Results, parent: str, lora: Lora | None, dtype: str, seed: int, trust: bool
) -> tuple[Any, str]:
    """Return (model to train, id of the state that holds its full weights).

    `lora` is the stage's, `seed` that of new adapters; see `load_model` for `dtype` and `trust`.
    Raises `CheckpointError` if the parent's checkpoint, or the one below its adapters, is not
    available, or if the parent's adapters do not fit the stage.
    """
    with contextlib.ExitStack() as local_copies:
        return _load_parent(results, parent, lora, dtype, seed, trust, local_copies)


def _load_parent(
    results: Results,
    parent: str,
    lora: Lora | None,
    dtype: str,
    seed: int,
    trust: bool,
    local_copies: contextlib.ExitStack,
) -> tuple[Any, str]:
    import torch

    source, revision = local_copies.enter_context(checkpoint_of(results, parent))
    adapter = None
    if (Path(source) / METADATA_FILE).is_file():
        adapter = source
        base = str(_metadata(adapter)["base_state"])
        source, revision = local_copies.enter_context(checkpoint_of(results, base))
    else:
        base = parent
    model = load_model(source, revision, dtype, trust)
    if adapter is None and lora is None:
        return model, base
    from peft import get_peft_model

    if adapter is not None:
        continued = lora is not None and _metadata(adapter)["lora"] == _shape(lora)
        adapted = load_adapter(model, adapter, trainable=continued)
        if continued:
            return adapted, base
        model, base = adapted.merge_and_unload(), parent
        if lora is not None:
            raise CheckpointError(
                f"{parent} holds adapters of another shape than this stage's; a LoRA stage may "
                "follow a LoRA stage of the same rank, alpha and target_modules only"
            )
        return model, base
    assert lora is not None
    torch.manual_seed(seed)
    return get_peft_model(model, peft_config(lora)), base


@contextlib.contextmanager
def checkpoint_of(results: Results, state: str) -> Iterator[tuple[str, str | None]]:
    """Provide a state's checkpoint as (hub id, revision) or (local folder, None).

    The folder is available until the context ends. Raises `CheckpointError` if the state is not
    recorded, or its checkpoint was deleted or is missing.
    """
    row = results.state(state)
    if row is None or row["status"] != "done":
        raise CheckpointError(f"state {state} is not recorded")
    if row["checkpoint"] is None:
        raise CheckpointError(f"the checkpoint of state {state} was deleted")
    with local_copy(results, row["checkpoint"]) as (source, revision):
        if revision is None and not Path(source).is_dir():
            raise CheckpointError(f"the checkpoint of state {state} is missing: {source}")
        if CheckpointReference.parse(row["checkpoint"]).folder is not None:
            # A folder outside the results may have been written to since it was recorded.
            known = KnownChecksums(cache_folder() / "checksums")
            if row["checksum"] and known.checksum(source) != row["checksum"]:
                raise CheckpointError(
                    f"state {state}: {source}: its weights do not match the recorded checksum"
                )
        yield source, revision


def peft_config(lora: Lora) -> LoraConfig:
    """Return peft's settings for new adapters."""
    from peft import LoraConfig

    targets: Any = lora.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # annotated int, only divided by the rank
        lora_dropout=lora.dropout,
        target_modules=targets if targets == "all-linear" else list(targets),
    )


def _metadata(adapter: str) -> dict[str, Any]:
    return dict(json.loads((Path(adapter) / METADATA_FILE).read_text(encoding="utf-8")))


def _shape(lora: Lora) -> dict[str, Any]:
    """Return what two stages must share for one to continue the other's adapters."""
    return lora.model_dump(mode="json", exclude={"dropout"})


def adapter_metadata(base: str, lora: Lora) -> dict[str, Any]:
    """Return what is saved beside adapters: the state that they apply to, and their shape."""
    return {"base_state": base, "lora": _shape(lora)}


def adapter_weights(trained: dict[str, Any]) -> dict[str, Any]:
    """Return the gathered trained tensors under the names that peft saves."""
    return {name.replace(".default.", "."): tensor for name, tensor in trained.items()}
