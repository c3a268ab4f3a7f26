"""Checksums and sizes of checkpoint folders.

A checkpoint is a folder in the format of transformers with its weights in safetensors files. Pure:
standard library only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, or different from the one that was recorded."""


def weight_files(folder: str | Path) -> list[Path]:
    """Return the folder's `*.safetensors` files, sorted by name.

    Raises `CheckpointError` if the folder has none or cannot be read.
    """
    try:
        found = sorted(Path(folder).glob("*.safetensors"))
    except OSError as e:
        raise CheckpointError(f"{folder}: cannot be read: {e.strerror}") from None
    if not found:
        raise CheckpointError(f"{folder}: no *.safetensors there")
    return found


def checkpoint_checksum(folder: str | Path) -> str:
    """Return the SHA-256 over the names and contents of the weight files, sorted by name.

    Raises `CheckpointError` if there are no weight files.
    """
    total = hashlib.sha256()
    for path in weight_files(folder):
        total.update(path.name.encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def checkpoint_bytes(folder: str | Path) -> int:
    """Return the total size of all files in the folder and its subfolders, in bytes."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def content_hash(folder: str | Path) -> str:
    """Return the SHA-256 of a model or scorer folder: weights, configuration and tokenizer.

    Covers all files directly in the folder except hidden ones. Raises `CheckpointError` if the
    folder does not exist.
    """
    root = Path(folder)
    if not root.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    total = hashlib.sha256()
    for path in sorted(p for p in root.iterdir() if p.is_file() and not p.name.startswith(".")):
        total.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
