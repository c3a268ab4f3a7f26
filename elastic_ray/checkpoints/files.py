"""Checksums and sizes of checkpoint folders.

A checkpoint is a folder in the format of transformers with its weights in safetensors files. Pure:
standard library only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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
    return combined_checksum({path.name: file_digest(path) for path in weight_files(folder)})


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file's content (32 bytes)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def combined_checksum(digests: Mapping[str, bytes]) -> str:
    """Return the checksum of a checkpoint from the digests of its weight files, by file name."""
    total = hashlib.sha256()
    for name in sorted(digests):
        total.update(name.encode())
        total.update(digests[name])
    return total.hexdigest()


def file_stamp(path: Path) -> str:
    """Return size, inode and times of a file as text: whoever writes to the file changes it.

    It includes the time of the last change of the inode, which no program can set.
    """
    found = path.stat()
    return f"{found.st_size} {found.st_dev} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}"


def weights_stamp(folder: str | Path) -> str:
    """Return the names and stamps of a checkpoint's weight files as text.

    Raises `CheckpointError` if there are no weight files, or one cannot be read.
    """
    try:
        return "\n".join(f"{path.name} {file_stamp(path)}" for path in weight_files(folder))
    except OSError as e:
        raise CheckpointError(f"{folder}: cannot be read: {e.strerror}") from None


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
