"""Caches folders of a remote store on this node's disk; each is downloaded once for all processes.

A copy is named after its source and the store's listing of it (names, sizes, times), so that a
folder that was written anew is downloaded anew. It is downloaded under a temporary name, compared
with the listing, and renamed; other processes that need it wait. All processes of a user on a node
share the copies, in the folder `ELASTIC_RAY_COPIES` or in the temporary directory.

Copies may fill half of the disk space that is free without them. When another would exceed that,
the least recently used copies are removed first. A copy in use is never removed, so the limit is
exceeded if all are in use. Every copy and every temporary folder has a file lock, which ends with
the process that holds it: leftovers of a killed process are recognised by their free lock, and
removed when room is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs

from ..errors import ResultsError
from .atomic_write import TEMPORARY_PREFIX

CACHE_VARIABLE = "ELASTIC_RAY_COPIES"
"""The environment variable that names the cache folder."""
DISK_SHARE = 0.5
"""The share of the disk space, free without the copies, that copies may fill."""
CHUNK_BYTES = 32 * 2**20
"""Bytes transferred by one request; Arrow's default of 1 MiB makes many of a large file."""


class NodeCache:
    """The copies on this node of folders on `filesystem`."""

    def __init__(self, filesystem: pafs.FileSystem, share: float = DISK_SHARE) -> None:
        self._filesystem, self._share = filesystem, share
        self._scratches: dict[Path, int] = {}

    @contextlib.contextmanager
    def copy_of(self, folder: str) -> Iterator[Path]:
        """Yield a local copy of that folder of the store; it stays until the context ends.

        `ResultsError` if the folder does not exist or cannot be downloaded.
        """
        listed = self._listed(folder)
        if not listed:
            raise ResultsError(f"{folder} is missing or empty")
        name = _copy_name(folder, listed)
        copy = cache_folder() / name
        while True:
            with _locked(name, fcntl.LOCK_SH):
                if copy.is_dir():
                    yield copy
                    return
            with _locked(name, fcntl.LOCK_EX):
                if not copy.is_dir():
                    self._download(folder, listed, name)

    def scratch(self) -> Path:
        """Return a new folder to fill, and then to `keep` or to `discard`."""
        name = uuid.uuid4().hex
        lock = _lock(name, fcntl.LOCK_EX)
        path = cache_folder() / f"{TEMPORARY_PREFIX}{name}"
        path.mkdir()
        self._scratches[path] = lock
        return path

    def keep(self, scratch: Path, folder: str) -> None:
        """Turn a scratch folder into the copy of `folder`, to which it was uploaded.

        `ResultsError` if the store does not list what was uploaded.
        """
        listed = self._listed(folder)
        self._check(scratch, folder, listed)
        name = _copy_name(folder, listed)
        with _locked(name, fcntl.LOCK_EX):
            if not (cache_folder() / name).exists():
                scratch.rename(cache_folder() / name)
        self.discard(scratch)
        self._make_room(0)

    def discard(self, scratch: Path) -> None:
        """Remove a scratch folder."""
        shutil.rmtree(scratch, ignore_errors=True)
        lock = self._scratches.pop(scratch, None)
        if lock is not None:
            _remove_lock(scratch.name.removeprefix(TEMPORARY_PREFIX), lock)

    def _listed(self, folder: str) -> dict[str, pafs.FileInfo]:
        """Map the names of the folder's files, relative to it, to what the store says of them."""
        selector = pafs.FileSelector(folder, allow_not_found=True, recursive=True)
        try:
            found = self._filesystem.get_file_info(selector)
        except OSError as e:
            raise ResultsError(f"cannot list {folder}: {e}") from e
        start = len(folder.strip("/")) + 1
        return {i.path.strip("/")[start:]: i for i in found if i.type == pafs.FileType.File}

    def _download(self, folder: str, listed: dict[str, pafs.FileInfo], name: str) -> None:
        """Download a copy; the caller holds its lock."""
        self._make_room(sum(info.size for info in listed.values()))
        fresh = cache_folder() / f"{TEMPORARY_PREFIX}{name}"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            pafs.copy_files(
                folder, str(fresh), source_filesystem=self._filesystem, chunk_size=CHUNK_BYTES
            )
            self._check(fresh, folder, listed)
            fresh.rename(cache_folder() / name)
        except OSError as e:
            raise ResultsError(f"cannot download {folder} into {cache_folder()}: {e}") from e
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _check(self, local: Path, folder: str, listed: dict[str, pafs.FileInfo]) -> None:
        found = {str(p.relative_to(local)): p.stat().st_size for p in _files(local)}
        if found != {name: info.size for name, info in listed.items()}:
            raise ResultsError(
                f"{folder} differs from its copy; was it written during the copying?"
            )

    def _make_room(self, coming: int) -> None:
        """Remove leftovers, and unused copies until `coming` bytes fit into the disk share."""
        cache = cache_folder()
        for left in cache.glob(f"{TEMPORARY_PREFIX}*"):
            _remove_unused(left, left.name.removeprefix(TEMPORARY_PREFIX))
        sizes = {path: int(path.name.rpartition("-")[2]) for path in cache.glob("copy-*-*")}
        total = sum(sizes.values())
        most = self._share * (shutil.disk_usage(cache).free + total)
        for path in sorted(sizes, key=_last_used):
            if total + coming <= most:
                return
            if _remove_unused(path, path.name):
                total -= sizes[path]


def _copy_name(folder: str, listed: dict[str, pafs.FileInfo]) -> str:
    """Return `copy-<hash>-<bytes>`, the same on all nodes."""
    lines = [folder, *(f"{n} {i.size} {i.mtime_ns}" for n, i in sorted(listed.items()))]
    mark = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]
    return f"copy-{mark}-{sum(info.size for info in listed.values())}"


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def cache_folder() -> Path:
    """Return the cache folder; it must belong to this user alone, as engines trust its files."""
    default = Path(tempfile.gettempdir(), f"elastic_ray-copies-{os.getuid()}")
    folder = Path(os.environ.get(CACHE_VARIABLE) or default)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ResultsError(
            f"{folder} belongs to another user; set {CACHE_VARIABLE} to a folder of your own"
        )
    (folder / "locks").mkdir(exist_ok=True)
    return folder


def _lock(name: str, mode: int) -> int:
    """Take the lock of that name and return its descriptor.

    `mode` is flock's; with `LOCK_NB`, `BlockingIOError` if another process holds the lock.
    """
    path = cache_folder() / "locks" / name
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, mode)
            with contextlib.suppress(FileNotFoundError):  # another process has removed it
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    os.utime(descriptor)
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def _locked(name: str, mode: int) -> Iterator[None]:
    descriptor = _lock(name, mode)
    try:
        yield
    finally:
        os.close(descriptor)


def _remove_lock(name: str, lock: int) -> None:
    """Remove a lock that is held exclusively; a process that waits for it makes a new one."""
    (cache_folder() / "locks" / name).unlink(missing_ok=True)
    os.close(lock)


def _last_used(copy: Path) -> float:
    try:
        return (cache_folder() / "locks" / copy.name).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove_unused(path: Path, name: str) -> bool:
    """Remove a copy or temporary folder unless its lock is held; return whether it is gone."""
    try:
        lock = _lock(name, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if not path.name.startswith(TEMPORARY_PREFIX) and path.exists():
        path = path.rename(path.with_name(f"{TEMPORARY_PREFIX}{name}"))
    shutil.rmtree(path, ignore_errors=True)
    _remove_lock(name, lock)
    return True
