"""The results folder as files: whole files appear at once, or not at all.

A `Folder` is a local folder or any pyarrow/fsspec filesystem URI. `put` writes a file's bytes to a
temporary name in the same folder, flushes them to the disk and renames; on an object store a put
is atomic by itself. What stands under its final name is therefore complete. A temporary file that
a killed process left behind is never read (its name starts with a dot) and `sweep` removes it.
Every failure is a `ResultsError` that names the file.
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
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ..schemas import ResultsError
from .node_cache import CHUNK, TEMPORARY, NodeCache
from .object_store import ATTEMPTS, PATIENT, open_store

SCRATCH = ".scratch"
"""Where folders are filled before they get their names."""
_ATOMIC_PUT = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}


class Folder:
    """A results folder.

    `uri` opens it again; `address` is the same without options, as DuckDB names its files;
    `root` its path on `filesystem`; `local` is None if it is remote. `attempts`: how often a
    request to S3 is made until it is given up.
    """

    def __init__(self, uri: str | os.PathLike[str], attempts: int = ATTEMPTS) -> None:
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
            # an Arrow filesystem's URI may end in options and keys: s3://bucket/x?region=...
            arrow = not isinstance(self.filesystem, pafs.PyFileSystem)
            self.address = f"{self.fsspec.protocol}://{self.root}" if arrow else uri.rstrip("/")
        self._renames = scheme not in _ATOMIC_PUT
        self._copies = NodeCache(self.filesystem)

    def path(self, name: str) -> str:
        """The full path on `filesystem` of a file named relative to the folder."""
        return f"{self.root}/{name}".rstrip("/")

    def place(self, name: str) -> str:
        """Where a name lies, for `Folder` on any machine: an absolute path, or a URI."""
        if self.local is not None:
            return self.path(name)
        start, mark, options = self.uri.partition("?")
        return f"{start.rstrip('/')}/{name}{mark}{options}"

    def exists(self, name: str = "") -> bool:
        if self.local is not None:
            return (self.local / name).exists()
        try:
            info = self.filesystem.get_file_info(self.path(name))
        except OSError as e:
            raise ResultsError(f"cannot look for {self.path(name)}: {e}") from e
        return bool(info.type != pafs.FileType.NotFound)

    def names(self, folder: str) -> list[str]:
        """The names, sorted, of what lies directly in `folder`; none if there is no such folder."""
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
        """Write the file whole, replacing one of that name, or raise and leave nothing behind."""
        try:
            if self.local is not None:
                _replace(self.local / name, data)
                return
            folder, _, base = self.path(name).rpartition("/")
            target = (
                f"{folder}/{TEMPORARY}{uuid.uuid4().hex}" if self._renames else f"{folder}/{base}"
            )
            if self._renames:
                self.filesystem.create_dir(folder)
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(data)
            if self._renames:
                self.filesystem.move(target, f"{folder}/{base}")
        except OSError as e:
            reason = e.strerror or str(e)
            raise ResultsError(
                f"cannot write {self.path(name)}: {reason}; what was recorded before is intact"
            ) from e

    def get(self, name: str) -> bytes | None:
        """A small file's bytes; None if it is not there."""
        try:
            with self.filesystem.open_input_file(self.path(name)) as source:
                data: bytes = source.read()
                return data
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError) as e:
            raise ResultsError(f"cannot read {self.path(name)}: {e}") from e

    def delete(self, names: Sequence[str]) -> None:
        """Remove files, as fast as can be; one that is not there is no error."""

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

    def scratch(self) -> Path:
        """A new local folder to fill for `put_folder`: beside its destination where that is local.

        Made under a temporary name; if the process dies, it is cleared away later.
        """
        if self.local is None:
            return self._copies.scratch()
        place = self.local / SCRATCH / f"{TEMPORARY}{uuid.uuid4().hex}"
        place.mkdir(parents=True)
        return place

    def put_folder(self, source: Path, name: str, last: str | None = None) -> None:
        """Move a filled scratch folder to its name, at once where the results are local.

        On a store it is there when its file `last` is, or when it is recorded. What lies there
        already was never recorded (or its record was withdrawn) and is replaced.
        """
        if self.local is None:
            self.delete_folder(name)
            self._upload(source, name, last)
            self._copies.keep(source, self.path(name))
            return
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            away = self.scratch()
            target.rename(away / "replaced")
            shutil.rmtree(away, ignore_errors=True)
        source.rename(target)

    def _upload(self, source: Path, name: str, last: str | None) -> None:
        files = sorted(str(p.relative_to(source)) for p in source.rglob("*") if p.is_file())
        for each in sorted(files, key=lambda file: file == last):
            target = self.path(f"{name}/{each}")
            try:
                if self._renames:
                    self.filesystem.create_dir(target.rpartition("/")[0])
                pafs.copy_files(
                    str(source / each),
                    target,
                    destination_filesystem=self.filesystem,
                    chunk_size=CHUNK,
                )
            except OSError as e:
                raise ResultsError(f"cannot write {target}: {e}") from e

    def discard(self, scratch: Path) -> None:
        """Remove a scratch folder that will not be used."""
        if self.local is None:
            self._copies.discard(scratch)
        else:
            shutil.rmtree(scratch, ignore_errors=True)

    @contextlib.contextmanager
    def local_folder(self, name: str) -> Iterator[Path]:
        """A folder of the results as a folder of this node: itself, or a copy (see `copies`).

        A copy may be removed once the context is left. `ResultsError` where it cannot be fetched.
        """
        if self.local is not None:
            yield self.local / name
            return
        with self._copies.of(self.path(name)) as copy:
            yield copy

    def delete_folder(self, name: str) -> None:
        """Remove a folder and what is in it; one that is not there is no error."""
        try:
            self.filesystem.delete_dir(self.path(name))
        except FileNotFoundError:
            return
        except OSError as e:
            raise ResultsError(f"cannot delete {self.path(name)}: {e}") from e

    def read(self, name: str, filters: pc.Expression | None = None) -> pa.Table:
        """A Parquet file's rows; `FileNotFoundError` if it is not there."""
        try:
            with self.filesystem.open_input_file(self.path(name)) as source:
                if filters is not None:
                    return pq.read_table(source, filters=filters)
                return pq.ParquetFile(source).read()  # several times quicker for a small file
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as e:
            raise self.unreadable(name, e) from e

    def footer(self, name: str) -> dict[str, str]:
        """A Parquet file's own key-value entries; `FileNotFoundError` if it is not there."""
        try:
            with self.filesystem.open_input_file(self.path(name)) as source:
                entries = pq.read_metadata(source).metadata or {}
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as e:
            raise self.unreadable(name, e) from e
        # ARROW:schema is Arrow's own and not text
        own = {k: v for k, v in entries.items() if not k.startswith(b"ARROW:")}
        return {key.decode(): value.decode() for key, value in own.items()}

    def unreadable(self, name: str, reason: object) -> ResultsError:
        """The error for a damaged or foreign file: which, why, and what to do."""
        first = str(reason).strip().split("\n")[0]
        advice = (
            "restore it from a copy, or delete it and run its sweeps again to compute its rows anew"
            if name.rpartition("/")[2].startswith("many-")
            else "delete it and run its sweep again; nothing else is lost"
        )
        return ResultsError(f"{self.path(name)} is damaged or not ours ({first}): {advice}")

    def sweep(self, folders: tuple[str, ...], older_than: float = 3600.0) -> list[str]:
        """Remove temporary files in the local `folders` older than that many seconds."""
        removed: list[str] = []
        if self.local is None:
            return removed  # an unfinished put leaves nothing on an object store
        horizon = time.time() - older_than
        for name in self.names(SCRATCH):
            folder = self.local / SCRATCH / name
            with contextlib.suppress(FileNotFoundError):
                if folder.stat().st_mtime < horizon:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed.append(str(folder))
        for table in folders:
            for parent, _, files in os.walk(self.local / table):
                for file in files:
                    path = Path(parent, file)
                    if file.startswith(TEMPORARY):
                        with contextlib.suppress(FileNotFoundError):
                            if path.stat().st_mtime < horizon:
                                path.unlink()
                                removed.append(str(path))
        return removed


@contextlib.contextmanager
def fetched(place: str) -> Iterator[str]:
    """What lies at a path or URI (`Folder.place`), as a path of this node; see `local_folder`.

    What is no URI, a path or a hub's id, is given back as it is.
    """
    if "://" not in place:
        yield place
        return
    with _opened(place).local_folder("") as folder:
        yield str(folder)


@functools.lru_cache(maxsize=64)
def _opened(uri: str) -> Folder:
    return Folder(uri, PATIENT)  # its first request may have to ask for credentials


def _replace(final: Path, data: bytes | pa.Buffer) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f"{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:12]}"
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
