"""Folders of a remote store as folders of this node: fetched once, whoever needs them.

A copy is named after where it comes from and what the store says lies there (names, sizes, times),
so a folder that was written anew is fetched anew. It is fetched under a temporary name, compared
with the store's list, and renamed; whoever wants it meanwhile waits. All processes of a user on a
node share the copies, in `ELASTIC_RAY_COPIES` or a folder of the temporary directory.

Copies may fill half of the disk space that is free without them. Where another would pass that, the
ones used longest ago go first; one in use never goes, so that half is passed where all are in use.
Every copy and every temporary folder has a file lock, which falls with the process that holds it:
what a killed process left behind is told from that, and removed when room is made.
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

from ..schemas import ResultsError

PLACE = "ELASTIC_RAY_COPIES"
SHARE = 0.5
"""Of the disk space that is free without the copies."""
TEMPORARY = ".tmp-"
CHUNK = 32 * 2**20
"""Bytes fetched or sent by one request; Arrow's own 1 MiB makes many of a large file."""


class NodeCache:
    """The copies on this node of what lies on `filesystem`."""

    def __init__(self, filesystem: pafs.FileSystem, share: float = SHARE) -> None:
        self._filesystem, self._share = filesystem, share
        self._scratches: dict[Path, int] = {}

    @contextlib.contextmanager
    def of(self, folder: str) -> Iterator[Path]:
        """A copy of that folder of the store; it stays until the context is left.

        `ResultsError` where the folder is not there or cannot be fetched.
        """
        listed = self._listed(folder)
        if not listed:
            raise ResultsError(f"{folder} is not there, or empty")
        name = _name(folder, listed)
        copy = _place() / name
        while True:
            with _locked(name, fcntl.LOCK_SH):
                if copy.is_dir():
                    yield copy
                    return
            with _locked(name, fcntl.LOCK_EX):
                if not copy.is_dir():
                    self._fetch(folder, listed, name)

    def scratch(self) -> Path:
        """A new folder to fill, and then to `keep` or to `discard`."""
        name = uuid.uuid4().hex
        lock = _lock(name, fcntl.LOCK_EX)
        path = _place() / f"{TEMPORARY}{name}"
        path.mkdir()
        self._scratches[path] = lock
        return path

    def keep(self, scratch: Path, folder: str) -> None:
        """Make a scratch folder the copy of what was uploaded from it to that folder.

        `ResultsError` where the store does not list what was uploaded.
        """
        listed = self._listed(folder)
        self._check(scratch, folder, listed)
        name = _name(folder, listed)
        with _locked(name, fcntl.LOCK_EX):
            if not (_place() / name).exists():
                scratch.rename(_place() / name)
        self.discard(scratch)
        self._make_room(0)

    def discard(self, scratch: Path) -> None:
        """Remove a scratch folder."""
        shutil.rmtree(scratch, ignore_errors=True)
        lock = self._scratches.pop(scratch, None)
        if lock is not None:
            _forget(scratch.name.removeprefix(TEMPORARY), lock)

    def _listed(self, folder: str) -> dict[str, pafs.FileInfo]:
        """The folder's files by their names relative to it."""
        selector = pafs.FileSelector(folder, allow_not_found=True, recursive=True)
        try:
            found = self._filesystem.get_file_info(selector)
        except OSError as e:
            raise ResultsError(f"cannot list {folder}: {e}") from e
        start = len(folder.strip("/")) + 1
        return {i.path.strip("/")[start:]: i for i in found if i.type == pafs.FileType.File}

    def _fetch(self, folder: str, listed: dict[str, pafs.FileInfo], name: str) -> None:
        """Fetch a copy; its lock is held."""
        self._make_room(sum(info.size for info in listed.values()))
        fresh = _place() / f"{TEMPORARY}{name}"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            pafs.copy_files(
                folder, str(fresh), source_filesystem=self._filesystem, chunk_size=CHUNK
            )
            self._check(fresh, folder, listed)
            fresh.rename(_place() / name)
        except OSError as e:
            raise ResultsError(f"cannot fetch {folder} into {_place()}: {e}") from e
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _check(self, local: Path, folder: str, listed: dict[str, pafs.FileInfo]) -> None:
        here = {str(p.relative_to(local)): p.stat().st_size for p in _files(local)}
        if here != {name: info.size for name, info in listed.items()}:
            raise ResultsError(f"{folder} does not hold what was copied; was it written meanwhile?")

    def _make_room(self, coming: int) -> None:
        """Remove what nobody uses until `coming` bytes fit the share, and what was left behind."""
        place = _place()
        for left in place.glob(f"{TEMPORARY}*"):
            _remove_unused(left, left.name.removeprefix(TEMPORARY))
        held = {path: int(path.name.rpartition("-")[2]) for path in place.glob("copy-*-*")}
        total = sum(held.values())
        most = self._share * (shutil.disk_usage(place).free + total)
        for path in sorted(held, key=_last_used):
            if total + coming <= most:
                return
            if _remove_unused(path, path.name):
                total -= held[path]


def _name(folder: str, listed: dict[str, pafs.FileInfo]) -> str:
    """`copy-<hash>-<bytes>`: the same on all nodes."""
    lines = [folder, *(f"{n} {i.size} {i.mtime_ns}" for n, i in sorted(listed.items()))]
    mark = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]
    return f"copy-{mark}-{sum(info.size for info in listed.values())}"


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _place() -> Path:
    """Where the copies lie: a folder of this user alone, as engines trust what is in it."""
    default = Path(tempfile.gettempdir(), f"elastic_ray-copies-{os.getuid()}")
    place = Path(os.environ.get(PLACE) or default)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if place.stat().st_uid != os.getuid():
        raise ResultsError(f"{place} is another user's; name a folder of your own in {PLACE}")
    (place / "locks").mkdir(exist_ok=True)
    return place


def _lock(name: str, how: int) -> int:
    """The descriptor of the lock of that name, held; `BlockingIOError` as `how` says."""
    path = _place() / "locks" / name
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, how)
            with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    os.utime(descriptor)
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def _locked(name: str, how: int) -> Iterator[None]:
    descriptor = _lock(name, how)
    try:
        yield
    finally:
        os.close(descriptor)


def _forget(name: str, lock: int) -> None:
    """Remove a lock that is held alone; who waits for it makes a new one."""
    (_place() / "locks" / name).unlink(missing_ok=True)
    os.close(lock)


def _last_used(copy: Path) -> float:
    try:
        return (_place() / "locks" / copy.name).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove_unused(path: Path, name: str) -> bool:
    """Remove a copy or a temporary folder unless somebody holds its lock; whether it is gone."""
    try:
        lock = _lock(name, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if not path.name.startswith(TEMPORARY) and path.exists():
        path = path.rename(path.with_name(f"{TEMPORARY}{name}"))
    shutil.rmtree(path, ignore_errors=True)
    _forget(name, lock)
    return True
