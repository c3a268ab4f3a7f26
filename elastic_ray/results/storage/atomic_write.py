"""Writes a local file so that it appears complete or not at all, also after a power cut."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pyarrow as pa

TEMPORARY_PREFIX = ".tmp-"
"""Starts the names of unfinished files and folders, which are never read."""


def write_atomically(final: Path, data: bytes | pa.Buffer) -> None:
    """Write `data` to a temporary file, flush it to disk, and rename it to `final`.

    Replaces an existing file; on an error raises and leaves nothing behind.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:12]}"
    try:
        temporary.write_bytes(data)
        _flush(temporary)
        os.replace(temporary, final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(final.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
