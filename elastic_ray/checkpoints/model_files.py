"""The weight files of a model's folder that are loaded, and the tensors that their headers list.

transformers and vLLM agree on the files: `model.safetensors`, or those that the index names. Other
safetensors files of the folder (a consolidated copy, say) are not weights of the model. Pure: reads
headers only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import CheckpointError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
_UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack")
_LARGEST_HEADER = 100_000_000
"""Limit of the safetensors format, in bytes."""
_COMPARED = 2**24
"""Bytes of two tensors that are compared at a time."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a file: its type in safetensors' words ("BF16"), shape, and place in the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def model_files(folder: str | Path) -> list[Path]:
    """Return the weight files of a model's folder, sorted by name.

    Raises `CheckpointError`, with the remedy, if there are none, if some are missing, or if it is
    not clear which they are.
    """
    root = Path(folder)
    if not root.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    single, index = root / WEIGHTS, root / INDEX
    if not index.is_file():
        if single.is_file():
            return [single]
        raise CheckpointError(f"{folder}: {_no_weights(root)}")
    named = sorted(set(_weight_map(index).values()))
    if single.is_file() and named != [WEIGHTS]:
        raise CheckpointError(
            f"{folder}: holds both {WEIGHTS} and {INDEX}, which names other files; remove one"
        )
    if missing := [name for name in named if not (root / name).is_file()]:
        raise CheckpointError(
            f"{folder}: {INDEX} names {missing[0]}, which is missing ({len(missing)} of "
            f"{len(named)} files); copy or download the folder again"
        )
    return [root / name for name in named]


def _weight_map(index: Path) -> dict[str, str]:
    """Return the file of each tensor, by an index file."""
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = {str(tensor): str(file) for tensor, file in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise CheckpointError(f"{index}: cannot be read: {type(e).__name__}: {e}") from None
    if not names or any(Path(name).name != name for name in names.values()):
        raise CheckpointError(f"{index}: its weight_map must name files of the same folder")
    return names


def _no_weights(root: Path) -> str:
    """Return why a folder has no weights that can be loaded, and what to do."""
    if (root / ADAPTER).is_file() or (root / "adapter_model.bin").is_file():
        return (
            "holds an adapter (LoRA) without the model below it; merge it: "
            "PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(new_folder)"
        )
    if others := sorted(path.name for path in root.glob("*.safetensors")):
        return f"no {WEIGHTS} there; found {others[0]}, which transformers does not load: rename it"
    unsafe = sorted(path.name for pattern in _UNSAFE for path in root.glob(pattern))
    if unsafe:
        return (
            f"no {WEIGHTS} there; found {unsafe[0]}, and reading other formats may run code; "
            "convert it: load it with transformers and call save_pretrained(new_folder)"
        )
    return f"no {WEIGHTS} and no {INDEX} there"


def read_headers(folder: str | Path) -> dict[str, StoredTensor]:
    """Return the tensors of a model's weight files by name.

    Raises `CheckpointError` as `model_files` does, and for a damaged or truncated file, and a
    tensor that two files hold.
    """
    tensors: dict[str, StoredTensor] = {}
    for path in model_files(folder):
        for name, tensor in read_header(path).items():
            if name in tensors:
                raise CheckpointError(f"{path}: {name} is in {tensors[name].file.name} too")
            tensors[name] = tensor
    return tensors


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of one safetensors file; `CheckpointError` if it is damaged."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LARGEST_HEADER:
                raise ValueError("no safetensors header")
            header = json.loads(file.read(length).decode("utf-8"))
        header.pop("__metadata__", None)
        tensors = {
            name: StoredTensor(
                path,
                str(each["dtype"]),
                tuple(map(int, each["shape"])),
                8 + length + int(each["data_offsets"][0]),
                8 + length + int(each["data_offsets"][1]),
            )
            for name, each in header.items()
        }
        end = max((each.end for each in tensors.values()), default=8 + length)
        if end != (size := path.stat().st_size):
            raise ValueError(f"its header describes {end:,} bytes, the file has {size:,}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as e:
        pointer = _is_pointer(path)
        reason = "a git-lfs pointer, not the file: run git lfs pull" if pointer else str(e)
        raise CheckpointError(f"{path}: damaged or incomplete: {reason}") from None
    return tensors


def _is_pointer(path: Path) -> bool:
    """Return whether a file is what git-lfs leaves in the place of a file not fetched yet."""
    try:
        with path.open("rb") as file:
            return file.read(24).startswith(b"version https://git-lfs")
    except OSError:
        return False


def same_content(one: StoredTensor, other: StoredTensor) -> bool:
    """Return whether two tensors are equal in type, shape and every bit."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    with one.file.open("rb") as first, other.file.open("rb") as second:
        first.seek(one.start)
        second.seek(other.start)
        left = one.end - one.start
        while left > 0:
            size = min(left, _COMPARED)
            if first.read(size) != second.read(size):
                return False
            left -= size
    return True


def read_config(folder: str | Path) -> Mapping[str, Any]:
    """Return the content of a folder's `config.json`; `CheckpointError` if it is not usable."""
    path = Path(folder) / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise CheckpointError(
            f"{folder}: no config.json there, which a folder in transformers' format has"
        ) from None
    except ValueError as e:
        raise CheckpointError(f"{path}: not valid JSON: {e}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: must hold an object")
    return found


_OUTPUTS = ("lm_head.weight", "embed_out.weight")
_INPUTS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_NO_PARAMETERS = ("inv_freq", "attn.bias", "attention.bias", "masked_bias", "position_ids")
"""Endings of the names of tensors in old checkpoints that are no parameters."""


def stored_parameters(folder: str | Path) -> int:
    """Return a language model's number of parameters by its files, tied ones counted once.

    Tensors that are no parameters (masks, positions) do not count. Needs no torch; the architecture
    itself is the measure (`architecture`), and a test holds the two equal.
    """
    tensors = read_headers(folder)
    tied = read_config(folder).get("tie_word_embeddings")
    outputs = [name for name in tensors if name.endswith(_OUTPUTS)]
    for name in outputs:
        inputs = [other for other in tensors if other.endswith(_INPUTS)]
        same = (tensors[i].shape == tensors[name].shape for i in inputs)
        if any(same) and (
            tied
            if tied is not None
            else any(same_content(tensors[i], tensors[name]) for i in inputs)
        ):
            del tensors[name]
    return sum(
        math.prod(each.shape) for name, each in tensors.items() if not is_constant(name, each.shape)
    )


def is_constant(name: str, shape: tuple[int, ...]) -> bool:
    """Return whether a tensor is no parameter; a mask, unlike a bias, is no vector."""
    if not name.endswith(_NO_PARAMETERS):
        return False
    return len(shape) != 1 or name.endswith(("inv_freq", "masked_bias", "position_ids"))
