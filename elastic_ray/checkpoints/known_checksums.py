"""Checksums of checkpoints that this node has hashed already: each file is hashed once per node.

Hashing a large checkpoint takes longer than loading it. So the digest of every weight file is kept
on the node's disk, for all processes of the user, together with the file's path and stamp
(`files.file_stamp`). A file whose stamp has changed is hashed again. Processes that need the same
digest at the same time wait for the first of them.

A stamp's times have the resolution of the kernel's clock, so that a write in the same tick as an
earlier one would not change them. A file is therefore hashed only when its last change is older
than a tick.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from pathlib import Path

from .files import CheckpointError, combined_checksum, file_digest, file_stamp, weight_files

CLOCK_TICK = 0.02
"""Upper limit of the resolution of a file's times (seconds)."""


class KnownChecksums:
    """The digests that are kept in `folder`, which belongs to this user alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def checksum(self, checkpoint: str | Path) -> str:
        """Return what `files.checkpoint_checksum` returns; only unknown files are hashed.

        Raises `CheckpointError` if there are no weight files, or one cannot be read.
        """
        try:
            return combined_checksum(
                {path.name: self._digest(path) for path in weight_files(checkpoint)}
            )
        except OSError as e:
            raise CheckpointError(f"{checkpoint}: cannot be read: {e.strerror}") from None

    def _digest(self, path: Path) -> bytes:
        """Return the digest of a file, known or computed now."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:32]
        with (self._folder / f"{name}.json").open("a+", encoding="utf-8") as entry:
            fcntl.flock(entry, fcntl.LOCK_EX)  # ends with the process that holds it
            stamp = file_stamp(path)
            entry.seek(0)
            known = _parsed(entry.read())
            if known.get("path") == str(path.absolute()) and known.get("stamp") == stamp:
                return bytes.fromhex(known["sha256"])
            changed = max(path.stat().st_mtime, path.stat().st_ctime)
            time.sleep(min(CLOCK_TICK, max(0.0, changed + CLOCK_TICK - time.time())))
            digest = file_digest(path)
            if file_stamp(path) == stamp:  # otherwise it was written meanwhile
                found = {"path": str(path.absolute()), "stamp": stamp, "sha256": digest.hex()}
                entry.truncate(0)
                entry.write(json.dumps(found))
            return digest


def _parsed(text: str) -> dict[str, str]:
    """Return an entry's content; empty for a new entry, or one whose writer was killed."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
