"""Checkpoint folders as files: their checksum, their size, and how a recorded place is read.

A checkpoint is a folder in transformers' format with safetensors weights. Pure, standard library.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, or not the one that was recorded."""


def weight_files(folder: str | Path) -> list[Path]:
    """The folder's *.safetensors, by name; `CheckpointError` where there are none."""
    try:
        found = sorted(Path(folder).glob("*.safetensors"))
    except OSError as e:
        raise CheckpointError(f"{folder}: cannot be read: {e.strerror}") from None
    if not found:
        raise CheckpointError(f"{folder}: no *.safetensors there")
    return found


def checkpoint_checksum(folder: str | Path) -> str:
    """SHA-256 over the names and contents of the weight files, in order of name."""
    total = hashlib.sha256()
    for path in weight_files(folder):
        total.update(path.name.encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def checkpoint_bytes(folder: str | Path) -> int:
    """Bytes of all files in the folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def content_hash(folder: str | Path) -> str:
    """SHA-256 of everything that makes a model or scorer folder: weights, config, tokenizer."""
    root = Path(folder)
    if not root.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    total = hashlib.sha256()
    for path in sorted(p for p in root.iterdir() if p.is_file() and not p.name.startswith(".")):
        total.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
