"""A state's weights on this node: downloaded, and compared with their recorded checksum.

A replica does this before it takes the weight lease, so that requests for the weights held go on
meanwhile. An engine does it again when it loads them, which takes milliseconds then, as checksums
are remembered (`checkpoints.known_checksums`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...checkpoints.files import CheckpointError, weight_files, weights_stamp
from ...checkpoints.hub import download_model
from ...checkpoints.known_checksums import KnownChecksums
from ...results.storage.node_cache import cache_folder
from ..types import Weights


def on_disk(weights: Weights, trust_remote_code: bool) -> Weights:
    """Return the weights with a folder of this node as `checkpoint`; a hub model is downloaded.

    Raises `CheckpointError` if the hub does not provide it. Folders in an object store have to be
    local already (`results.storage.folder.local_folder_at`).
    """
    if weights.revision is None:
        return weights
    folder = download_model(
        weights.checkpoint, weights.revision, trust_remote_code=trust_remote_code
    )
    return replace(weights, checkpoint=folder, revision=None)


def weight_bytes(folder: str, dtype: str) -> int:
    """Return the bytes that a checkpoint's weights take in an engine of type `dtype`.

    `dtype` is "float32" or a 16-bit type; the files may be in another. Reads their headers only.
    """
    width = 4 if dtype == "float32" else 2
    return sum(width * math.prod(shape) for shape in _shapes(folder))


def _shapes(folder: str) -> Iterator[list[int]]:
    from safetensors import safe_open

    for path in weight_files(folder):
        with safe_open(path, framework="pt") as opened:
            file: Any = opened
            yield from (file.get_slice(name).get_shape() for name in file.keys())  # noqa: SIM118


def checked_stamp(weights: Weights) -> str:
    """Return the stamp of local weights that match their checksum (`files.weights_stamp`).

    The files are those that were hashed for as long as they have this stamp. Raises
    `CheckpointError` if they are missing, unreadable, or do not match.
    """
    folder, state = weights.checkpoint, weights.full_state_id
    if not Path(folder).is_dir():
        raise CheckpointError(f"state {state}: its checkpoint is missing: {folder}")
    try:
        stamp = weights_stamp(folder)
        if weights.checksum is None:
            return stamp
        checksum = KnownChecksums(cache_folder() / "checksums").checksum(folder)
    except CheckpointError as e:
        raise CheckpointError(f"state {state}: {e}") from None
    if checksum != weights.checksum:
        raise CheckpointError(
            f"state {state}: {folder}: its weights do not match the recorded checksum"
        )
    return stamp
