"""A state's weights on this node: downloaded, and compared with their recorded checksum.

A replica does this before it takes the weight lease, so that requests for the weights held go on
meanwhile. An engine does it again when it loads them, which takes milliseconds then, as checksums
are remembered (`checkpoints.known_checksums`).
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...checkpoints.files import CheckpointError, weights_stamp
from ...checkpoints.hub import download_model
from ...checkpoints.known_checksums import KnownChecksums
from ...checkpoints.model_files import model_files, read_headers
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
    return sum(width * math.prod(each.shape) for each in read_headers(folder).values())


@contextlib.contextmanager
def loaded_files(folder: str) -> Iterator[str]:
    """Provide a folder like `folder`, but without safetensors files that are not its weights.

    vLLM reads every safetensors file of a folder without an index when it starts.
    """
    used = {path.name for path in model_files(folder)}
    entries = list(Path(folder).resolve().iterdir())
    if all(path.name in used or path.suffix != ".safetensors" for path in entries):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="elastic_ray-model-") as view:
        for path in entries:
            if path.name in used or path.suffix != ".safetensors":
                Path(view, path.name).symlink_to(path)
        yield view


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
