"""Loads models from checkpoint folders and saves them, in safetensors files only.

To save, rank 0 copies the weights into its memory (ZeRO-3 partitions included). From there they are
written to a scratch folder, in files of at most `SHARD_BYTES`, which an object store transfers in
parallel. The files are checked against the model's own names and shapes, and the folder is renamed
to its final name. A checkpoint under its final name is therefore complete.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints import architecture
from ..checkpoints.files import checkpoint_bytes, checkpoint_checksum, weight_files
from ..checkpoints.hub import download_model
from ..checkpoints.reference import CheckpointReference
from ..results.state_rows import SavedCheckpoint
from .job import TrainingError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..results.store import Results

Shapes = Mapping[str, tuple[int, ...]]

SHARD_BYTES = 10**9
"""Largest weight file of a checkpoint, unless a single tensor is larger."""
METADATA_FILE = "elastic_ray.json"
"""File of a LoRA checkpoint that names the state below its adapters and their shape."""


@contextlib.contextmanager
def local_copy(results: Results, checkpoint: str) -> Iterator[tuple[str, str | None]]:
    """Provide a recorded checkpoint as (hub id, revision) or (local folder, None).

    The folder of a remote results store is downloaded and kept until the context ends.
    """
    reference = CheckpointReference.parse(checkpoint)
    if reference.stored is None:
        yield reference.source(results.location)
    else:
        with results.folder.local_folder(reference.stored) as folder:
            yield str(folder), None


def load_model(source: str, revision: str | None, dtype: str, trust: bool) -> PreTrainedModel:
    """Load a causal language model from a folder, or from the hub where `revision` is given.

    `dtype` is "float32" or "bfloat16"; `trust` allows code of the model's own. Raises
    `CheckpointError` if it cannot be loaded, or its tensors are not those of its architecture.
    """
    if revision is not None:
        source = download_model(source, revision, trust_remote_code=trust)
    model: PreTrainedModel = architecture.load_model(source, "language", dtype, trust)
    return model


def load_tokenizer(
    source: str, revision: str | None, trust: bool, cached_only: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint folder or hub model; `cached_only` downloads nothing."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        source, revision=revision, trust_remote_code=trust, local_files_only=cached_only
    )


def parameter_shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by name, tied ones once.

    Call it before DeepSpeed partitions the model.
    """
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def gather_weights(model: torch.nn.Module, trained_only: bool) -> dict[str, torch.Tensor]:
    """Return copies of the whole parameters on the CPU of rank 0, an empty mapping on other ranks.

    A collective operation: every rank must call it. `trained_only` leaves out frozen parameters.
    Raises `TrainingError` on rank 0, after all ranks have taken part, if a value is not finite.
    """
    import torch.distributed as dist

    is_first = not dist.is_initialized() or dist.get_rank() == 0
    weights: dict[str, torch.Tensor] = {}
    extremes: dict[str, torch.Tensor] = {}

    def keep(name: str, parameter: torch.Tensor) -> None:
        extremes[name] = _extremes(parameter.detach())
        weights[name] = parameter.detach().to("cpu", copy=True)

    for name, parameter in model.named_parameters():
        if trained_only and not parameter.requires_grad:
            continue
        if hasattr(parameter, "ds_id"):  # ZeRO-3 keeps only this rank's partition
            import deepspeed

            with deepspeed.zero.GatheredParameters([parameter]):
                if is_first:
                    keep(name, parameter)
        elif is_first:
            keep(name, parameter)
    _check_finite(extremes)
    return weights


def _extremes(tensor: torch.Tensor) -> torch.Tensor:
    """Return the smallest and the largest value, on the tensor's device; NaN if one value is."""
    import torch

    return torch.stack(torch.aminmax(tensor)).float() if tensor.numel() else torch.zeros(2)


def _check_finite(extremes: Mapping[str, torch.Tensor]) -> None:
    """Raise `TrainingError` unless the extremes of every parameter, and so its values, are finite.

    The extremes are taken where the parameter is, in one pass; a check on the CPU took longer than
    the copy.
    """
    for name, pair in extremes.items():
        if not bool(pair.isfinite().all()):
            raise TrainingError(f"diverged: {name} holds values that are not finite")


def check_shapes(weights: Mapping[str, torch.Tensor], shapes: Shapes) -> None:
    """Raise `TrainingError` if a tensor is missing or has another shape."""
    for name, shape in shapes.items():
        if name not in weights:
            raise TrainingError(f"checkpoint: {name} is missing")
        if tuple(weights[name].shape) != shape:
            raise TrainingError(
                f"checkpoint: {name} has shape {tuple(weights[name].shape)}, expected {shape}"
            )


def save_checkpoint(
    results: Results,
    state: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    weights: dict[str, torch.Tensor],
    metadata: Mapping[str, Any] | None = None,
) -> SavedCheckpoint:
    """Save a state's checkpoint under its final name and return the columns that describe it.

    `metadata` is written beside the weights as `METADATA_FILE`. Raises `OSError` if the disk is
    full; nothing is left behind then. May run in a thread beside the training: of `model` it reads
    the configuration, names and dtypes only; `tokenizer` must not be in use elsewhere.
    """
    scratch = results.folder.scratch()
    try:
        # It empties the mapping.
        model.save_pretrained(scratch, state_dict=dict(weights), max_shard_size=SHARD_BYTES)
        _correct_index(scratch, weights)
        # Whether this process may use the hub is not a property of the checkpoint.
        tokenizer.init_kwargs.pop("local_files_only", None)
        tokenizer.save_pretrained(scratch)
        if metadata:
            (scratch / METADATA_FILE).write_text(json.dumps(metadata), encoding="utf-8")
        _check_files(scratch, weights)
        saved = SavedCheckpoint(
            checkpoint=results.checkpoint_name(state),
            checkpoint_bytes=checkpoint_bytes(scratch),
            checksum=checkpoint_checksum(scratch),
        )
        results.folder.put_folder(scratch, results.checkpoint_name(state))
    except Exception as e:
        results.folder.discard(scratch)
        # The error of safetensors says "No space left on device", but is not an OSError.
        if isinstance(e, OSError) or type(e).__name__ == "SafetensorError":
            raise OSError(f"cannot save the checkpoint of {state}: {e}") from e
        raise
    return saved


def _correct_index(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Set the parameter count in the index of several weight files, if there is one.

    transformers counts the model's parameters, of which ZeRO-3 leaves a rank a part.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        content = json.loads(index.read_text(encoding="utf-8"))
        content["metadata"]["total_parameters"] = sum(w.numel() for w in weights.values())
        index.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _check_files(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Raise `TrainingError` unless the file headers list as many tensors and values as given."""
    from safetensors import safe_open

    saved_shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                saved_shapes[name] = tuple(file.get_slice(name).get_shape())
    expected = sum(w.numel() for w in weights.values())
    saved = sum(math.prod(shape) for shape in saved_shapes.values())
    if len(saved_shapes) != len(weights) or saved != expected:
        raise TrainingError(
            f"checkpoint: the file holds {len(saved_shapes)} tensors of {saved:,} values; "
            f"the model has {len(weights)} of {expected:,}"
        )
