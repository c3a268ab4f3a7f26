"""Reads and writes the files of a results folder; every write is atomic.

A `Folder` is a local folder or any pyarrow/fsspec filesystem URI. `put` writes to a temporary name
in the same folder, flushes to disk and renames. On an object store an upload is already atomic. A
file under its final name is therefore complete. A temporary file left by a killed process is never
read (its name starts with a dot), and `remove_stale_files` deletes it. Every failure raises a
`ResultsError` that names the file.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from ..errors import ResultsError
from .atomic_write import TEMPORARY_PREFIX, write_atomically
from .node_cache import CHUNK_BYTES, NodeCache
from .object_store import DEFAULT_ATTEMPTS, PATIENT_ATTEMPTS, open_store

SCRATCH = ".scratch"
"""Name of the folder that holds unfinished local folders until they are renamed."""
UPLOADS = 8
"""Files of a folder that are uploaded at the same time."""
_ATOMIC_PUT = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}


class Folder:
    """A results folder.

    `Folder(uri)` opens the same folder. `address` is the URI without options, the form that DuckDB
    uses. `root` is the path on `filesystem`. `local` is the local path, or None for a remote
    folder. `attempts` is the maximum number of attempts per S3 request.
    """

    def __init__(self, uri: str | os.PathLike[str], attempts: int = DEFAULT_ATTEMPTS) -> None:
        uri = os.fspath(uri)
        scheme = urlsplit(uri).scheme if "://" in uri else ""
        self.local: Path | None = None
        self.fsspec: Any = None
        if scheme in ("", "file"):
            path = unquote(urlsplit(uri).path) if scheme else uri
            self.local = Path(path).expanduser().absolute()
            self.filesystem: pafs.FileSystem = pafs.LocalFileSystem()
            self.root = self.address = self.uri = str(self.local)
        else:
            self.filesystem, self.root, self.fsspec = open_store(uri, attempts)
            self.uri = uri
            # The URI of an Arrow filesystem may end in options and keys: s3://bucket/x?region=...
            is_arrow = not isinstance(self.filesystem, pafs.PyFileSystem)
            self.address = f"{self.fsspec.protocol}://{self.root}" if is_arrow else uri.rstrip("/")
        self._renames = scheme not in _ATOMIC_PUT
        self._cache = NodeCache(self.filesystem)

    def path(self, name: str) -> str:
        """Return the full path on `filesystem` of a file named relative to the folder."""
        return f"{self.root}/{name}".rstrip("/")

    def location(self, name: str) -> str:
        """Return the absolute path or URI of a name, from which any machine can open a `Folder`."""
        if self.local is not None:
            return self.path(name)
        base, separator, options = self.uri.partition("?")
        return f"{base.rstrip('/')}/{name}{separator}{options}"

    # Files

    def exists(self, name: str = "") -> bool:
        """Return whether a file or folder of that name exists."""
        if self.local is not None:
            return (self.local / name).exists()
        try:
            info = self.filesystem.get_file_info(self.path(name))
        except OSError as e:
            raise ResultsError(f"cannot check whether {self.path(name)} exists: {e}") from e
        return bool(info.type != pafs.FileType.NotFound)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of the entries of `folder`; empty if it does not exist."""
        if self.local is not None:
            try:
                return sorted(os.listdir(self.local / folder))
            except FileNotFoundError:
                return []
            except OSError as e:
                raise ResultsError(f"cannot list {self.local / folder}: {e.strerror}") from e
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        try:
            return sorted(info.base_name for info in self.filesystem.get_file_info(selector))
        except OSError as e:
            raise ResultsError(f"cannot list {self.path(folder)}: {e}") from e

    def put(self, name: str, data: bytes | pa.Buffer) -> None:
        """Write a whole file and replace an existing one; a failed write leaves no file behind."""
        try:
            if self.local is not None:
                write_atomically(self.local / name, data)
            else:
                self._put_remote(name, data)
        except OSError as e:
            reason = e.strerror or str(e)
            raise ResultsError(
                f"cannot write {self.path(name)}: {reason}; what was recorded before is intact"
            ) from e

    def _put_remote(self, name: str, data: bytes | pa.Buffer) -> None:
        final = self.path(name)
        folder = final.rpartition("/")[0]
        target = f"{folder}/{TEMPORARY_PREFIX}{uuid.uuid4().hex}" if self._renames else final
        if self._renames:
            self.filesystem.create_dir(folder)
        with self.filesystem.open_output_stream(target) as stream:
            stream.write(data)
        if self._renames:
            self.filesystem.move(target, final)

    def get(self, name: str) -> bytes | None:
        """Return a small file's bytes; None if it does not exist."""
        try:
            with self.filesystem.open_input_file(self.path(name)) as source:
                data: bytes = source.read()
                return data
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError) as e:
            raise ResultsError(f"cannot read {self.path(name)}: {e}") from e

    def delete(self, names: Sequence[str]) -> None:
        """Delete files (in parallel if remote); missing files are ignored."""

        def remove(name: str) -> None:
            try:
                self.filesystem.delete_file(self.path(name))
            except FileNotFoundError:
                return
            except OSError as e:
                raise ResultsError(f"cannot delete {self.path(name)}: {e}") from e

        if self.local is not None:
            for name in names:
                remove(name)
            return
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(remove, names))

    def remove_stale_files(self, folders: tuple[str, ...], older_than: float = 3600.0) -> list[str]:
        """Delete temporary files and scratch folders older than `older_than` seconds.

        Temporary files are searched for below `folders`. Returns the deleted paths, none if the
        results are remote.
        """
        removed: list[str] = []
        if self.local is None:
            return removed  # an unfinished upload leaves nothing on an object store
        cutoff = time.time() - older_than
        for name in self.names(SCRATCH):
            folder = self.local / SCRATCH / name
            with contextlib.suppress(FileNotFoundError):
                if folder.stat().st_mtime < cutoff:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed.append(str(folder))
        for table in folders:
            for path in _temporary_files(self.local / table):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < cutoff:
                        path.unlink()
                        removed.append(str(path))
        return removed

    # Folders of files, such as checkpoints

    def scratch(self) -> Path:
        """Return a new local folder to fill for `put_folder`.

        The folder has a temporary name. If the results are local, it is inside the results folder.
        If the process dies, the scratch folder is removed later.
        """
        if self.local is None:
            return self._cache.scratch()
        folder = self.local / SCRATCH / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        return folder

    def put_folder(self, source: Path, name: str, last: str | None = None) -> None:
        """Move a filled scratch folder to its final name, atomically if the results are local.

        On a remote store the file `last` is uploaded last: the folder is complete once that file
        exists, or once the folder is recorded. An existing folder is replaced. It was never
        recorded, or the record of it was removed.
        """
        if self.local is None:
            self.delete_folder(name)
            self._upload(source, name, last)
            self._cache.keep(source, self.path(name))
            return
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            discarded = self.scratch()
            target.rename(discarded / "replaced")
            shutil.rmtree(discarded, ignore_errors=True)
        source.rename(target)

    def _upload(self, source: Path, name: str, last: str | None) -> None:
        """Upload the files of a folder, several at once, and `last` after all others."""
        files = {str(p.relative_to(source)) for p in source.rglob("*") if p.is_file()}

        def upload(file: str) -> None:
            target = self.path(f"{name}/{file}")
            try:
                if self._renames:
                    self.filesystem.create_dir(target.rpartition("/")[0])
                pafs.copy_files(
                    str(source / file),
                    target,
                    destination_filesystem=self.filesystem,
                    chunk_size=CHUNK_BYTES,
                )
            except OSError as e:
                raise ResultsError(f"cannot write {target}: {e}") from e

        with ThreadPoolExecutor(UPLOADS) as pool:
            list(pool.map(upload, sorted(files - {last})))
        if last in files:
            upload(last)

    def discard(self, scratch: Path) -> None:
        """Remove a scratch folder that will not be used."""
        if self.local is None:
            self._cache.discard(scratch)
        else:
            shutil.rmtree(scratch, ignore_errors=True)

    @contextlib.contextmanager
    def local_folder(self, name: str) -> Iterator[Path]:
        """Yield the local path of a folder in the results: itself, or a copy in the node cache.

        A copy may be removed after the context ends. Raises `ResultsError` if the download fails.
        """
        if self.local is not None:
            yield self.local / name
            return
        with self._cache.copy_of(self.path(name)) as copy:
            yield copy

    def delete_folder(self, name: str) -> None:
        """Delete a folder and its content; a missing folder is ignored."""
        try:
            self.filesystem.delete_dir(self.path(name))
        except FileNotFoundError:
            return
        except OSError as e:
            raise ResultsError(f"cannot delete {self.path(name)}: {e}") from e


@contextlib.contextmanager
def local_folder_at(location: str) -> Iterator[str]:
    """Yield a local path of the folder at `location`.

    The folder of a URI (`Folder.location`) is downloaded with `Folder.local_folder`. Any other
    `location`, such as a path or a hub id, is yielded unchanged.
    """
    if "://" not in location:
        yield location
        return
    with _opened(location).local_folder("") as folder:
        yield str(folder)


@functools.lru_cache(maxsize=64)
def _opened(uri: str) -> Folder:
    return Folder(uri, PATIENT_ATTEMPTS)  # the first request may have to fetch credentials


def _temporary_files(folder: Path) -> Iterator[Path]:
    for parent, _, files in os.walk(folder):
        yield from (Path(parent, file) for file in files if file.startswith(TEMPORARY_PREFIX))
