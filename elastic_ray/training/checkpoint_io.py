"""Weights to and from checkpoint folders: safetensors only, complete or not there.

A snapshot is gathered on rank 0 (ZeRO-3 partitions included), written to a scratch folder, read
back to compare names and shapes with the model's own, and given its final name at once.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.files import CheckpointError, checkpoint_bytes, checkpoint_checksum, weight_files
from ..checkpoints.reference import CheckpointReference
from ..results.state_rows import SavedCheckpoint
from ..results.store import Results
from .job import TrainingError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Shapes = Mapping[str, tuple[int, ...]]


@contextlib.contextmanager
def local_copy(results: Results, checkpoint: str) -> Iterator[tuple[str, str | None]]:
    """(folder or hub id, revision) of a recorded checkpoint; where results are remote, the folder
    is fetched, and there until the context is left."""
    reference = CheckpointReference.parse(checkpoint)
    if reference.stored is None:
        yield reference.source(results.location)
    else:
        with results.folder.local_folder(reference.stored) as folder:
            yield str(folder), None


def load_model(place: str, revision: str | None, dtype: str, trust: bool) -> PreTrainedModel:
    """A causal language model from a folder or the hub, in `dtype` ("float32", "bfloat16")."""
    from transformers import AutoModelForCausalLM

    if revision is None:
        weight_files(place)
    try:
        return AutoModelForCausalLM.from_pretrained(
            place,
            revision=revision,
            dtype=dtype,
            trust_remote_code=trust,
            use_safetensors=True,
        )
    except Exception as e:
        raise CheckpointError(f"{place}: cannot be loaded: {type(e).__name__}: {e}") from e


def load_tokenizer(place: str, revision: str | None, trust: bool) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=trust)


def shapes_of(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter, tied ones once; taken before DeepSpeed parts them."""
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def gather(model: torch.nn.Module, trained_only: bool) -> dict[str, torch.Tensor]:
    """All parameters whole on the CPU of rank 0 (empty elsewhere); every rank must call it."""
    import torch.distributed as dist

    first = not dist.is_initialized() or dist.get_rank() == 0
    found = {}
    for name, parameter in model.named_parameters():
        if trained_only and not parameter.requires_grad:
            continue
        if hasattr(parameter, "ds_id"):  # ZeRO-3 keeps only this rank's part
            import deepspeed

            with deepspeed.zero.GatheredParameters([parameter]):
                if first:
                    found[name] = parameter.detach().cpu().clone()
        elif first:
            found[name] = parameter.detach().cpu().clone()
    return found


def check_weights(weights: Mapping[str, torch.Tensor], shapes: Shapes) -> None:
    """`TrainingError` if a tensor is missing, misshapen, or not finite."""
    for name, shape in shapes.items():
        if name not in weights:
            raise TrainingError(f"snapshot: {name} is missing")
        if tuple(weights[name].shape) != shape:
            raise TrainingError(
                f"snapshot: {name} has shape {tuple(weights[name].shape)}, expected {shape}"
            )
        if not bool(weights[name].isfinite().all()):
            raise TrainingError(f"diverged: {name} holds values that are not finite")


def save(
    results: Results,
    state: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    weights: dict[str, torch.Tensor],
    notes: Mapping[str, Any] | None = None,
) -> SavedCheckpoint:
    """Write a checkpoint under its final name; returns its description for the record.

    `OSError` where the disk is full; nothing is left behind then.
    """
    scratch = results.folder.scratch()
    try:
        model.save_pretrained(scratch, state_dict=dict(weights))  # it empties the mapping
        # Whether the hub was to be asked is this process's affair, and no part of a checkpoint.
        tokenizer.init_kwargs.pop("local_files_only", None)
        tokenizer.save_pretrained(scratch)
        if notes:
            (scratch / "elastic_ray.json").write_text(json.dumps(notes), encoding="utf-8")
        _check_saved(scratch, weights)
        saved = SavedCheckpoint(
            checkpoint=results.checkpoint_name(state),
            checkpoint_bytes=checkpoint_bytes(scratch),
            checksum=checkpoint_checksum(scratch),
        )
        results.folder.put_folder(scratch, results.checkpoint_name(state))
    except Exception as e:
        results.folder.discard(scratch)
        # safetensors' own error says "No space left on device" but is no OSError
        if isinstance(e, OSError) or type(e).__name__ == "SafetensorError":
            raise OSError(f"cannot save the checkpoint of {state}: {e}") from e
        raise
    return saved


def _check_saved(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """The file must hold what was gathered: tensor count and sizes, from the file's own header."""
    from safetensors import safe_open

    held: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                held[name] = tuple(file.get_slice(name).get_shape())
    total = sum(w.numel() for w in weights.values())
    saved = sum(math.prod(shape) for shape in held.values())
    if len(held) != len(weights) or saved != total:
        raise TrainingError(
            f"snapshot: the file holds {len(held)} tensors of {saved:,} values; "
            f"the model has {len(weights)} of {total:,}"
        )
