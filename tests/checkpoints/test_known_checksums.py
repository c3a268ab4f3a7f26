"""Each weight file is hashed once per node, and again when it was written."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from elastic_ray.checkpoints import known_checksums
from elastic_ray.checkpoints.files import (
    CheckpointError,
    checkpoint_checksum,
    file_digest,
    weights_stamp,
)
from elastic_ray.checkpoints.known_checksums import KnownChecksums


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed, in order."""
    names: list[str] = []

    def counted(path: Path) -> bytes:
        names.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(known_checksums, "file_digest", counted)
    return names


def checkpoint(root: Path) -> Path:
    folder = root / "checkpoint"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.safetensors").write_bytes(name.encode() * 1000)
    return folder


def flip_bit(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    with path.open("r+b") as file:
        file.write(data)


def test_files_are_hashed_once_by_all_processes(tmp_path: Path, hashed: list[str]) -> None:
    folder = checkpoint(tmp_path)
    for _ in range(3):
        known = KnownChecksums(tmp_path / "known")  # as another process would open it
        assert known.checksum(folder) == checkpoint_checksum(folder)
    assert hashed == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize("reset_times", [False, True])
def test_a_file_that_was_written_is_hashed_again(
    tmp_path: Path, hashed: list[str], reset_times: bool
) -> None:
    """Also at once after it was hashed, and where its times are set back."""
    folder, known = checkpoint(tmp_path), KnownChecksums(tmp_path / "known")
    file = folder / "b.safetensors"
    for round in range(20):
        before, stamp = known.checksum(folder), weights_stamp(folder)
        times = file.stat()
        flip_bit(file, round)
        if reset_times:
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert weights_stamp(folder) != stamp
        assert known.checksum(folder) == checkpoint_checksum(folder) != before
    assert hashed.count("a.safetensors") == 1


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, known = checkpoint(tmp_path), KnownChecksums(tmp_path / "known")

    def slow(path: Path) -> bytes:
        digest = file_digest(path)
        time.sleep(known_checksums.CLOCK_TICK)
        flip_bit(path, 0)
        return digest

    with monkeypatch.context() as changed:
        changed.setattr(known_checksums, "file_digest", slow)
        known.checksum(folder)
    assert known.checksum(folder) == checkpoint_checksum(folder)


def test_a_torn_entry_is_ignored(tmp_path: Path) -> None:
    folder, known = checkpoint(tmp_path), KnownChecksums(tmp_path / "known")
    right = known.checksum(folder)
    for entry in (tmp_path / "known").iterdir():
        entry.write_text(entry.read_text()[:-9])
    assert known.checksum(folder) == right


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors there"):
        KnownChecksums(tmp_path / "known").checksum(tmp_path)
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors there"):
        weights_stamp(tmp_path)
