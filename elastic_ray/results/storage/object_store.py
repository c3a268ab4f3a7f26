"""Opens remote stores by their URI, with retries of refused requests, also for DuckDB.

S3 (`s3://`), Google's (`gs://`) and Azure's (`abfs://`) stores are opened by pyarrow, any other
scheme by fsspec if it knows it. DuckDB reads through the same filesystem as the rest of this
package, so that one retry rule applies to every reader.
"""

from __future__ import annotations

from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs
from fsspec.implementations.arrow import ArrowFSWrapper

from ..errors import ResultsError

DEFAULT_ATTEMPTS = 10
"""Attempts of a request to S3, with pauses that double from 50 ms: some 25 s in all. A store that
refuses one request in ten then fails one in 10^10."""
PATIENT_ATTEMPTS = 13
"""The same for requests on which hours of work depend: some three and a half minutes."""


def open_store(uri: str, attempts: int = DEFAULT_ATTEMPTS) -> tuple[pafs.FileSystem, str, Any]:
    """Return (pyarrow filesystem, path on it, the same as an fsspec filesystem for DuckDB).

    `ResultsError` if the scheme is unknown or the store cannot be opened.
    """
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
        if isinstance(filesystem, pafs.S3FileSystem):
            filesystem = _with_retries(filesystem, attempts)
        return filesystem, path.rstrip("/"), ListingFileSystem(filesystem)
    except pa.ArrowInvalid:
        pass  # pyarrow does not know the scheme; fsspec may
    except OSError as e:
        raise ResultsError(f"cannot open the results at {uri}: {e}") from e
    try:
        other, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError, OSError) as e:
        raise ResultsError(f"cannot open the results at {uri}: {e}") from e
    return pafs.PyFileSystem(pafs.FSSpecHandler(other)), path.rstrip("/"), other


def _with_retries(filesystem: pafs.S3FileSystem, attempts: int) -> pafs.S3FileSystem:
    """Return the same filesystem with so many attempts, and one request per small file, not three.

    Arrow makes three attempts and a URI cannot change that; pickling is the only way to read a
    filesystem's options. The SDK's other strategy, "standard", retries a hundred times in the life
    of a filesystem and never after: its allowance is refilled by a call that Arrow does not make. A
    sweep on a store that refused one request in ten failed because of that.
    """
    options = filesystem.__reduce__()[1][0] | {"allow_delayed_open": True}
    return pafs.S3FileSystem(
        **options, retry_strategy=pafs.AwsDefaultS3RetryStrategy(max_attempts=attempts)
    )


class ListingFileSystem(ArrowFSWrapper):  # type: ignore[misc]  # fsspec has no type hints
    """A pyarrow filesystem for DuckDB, which asks for patterns of names, sizes and bytes.

    Everything below a folder is listed in one call, and a listing that fails raises: fsspec's own
    leaves out a folder that cannot be listed, so that its rows would be missing without an error.
    File information from the last listing is reused: DuckDB would request it ten times per file.
    """

    cachable = False

    def __init__(self, filesystem: pafs.FileSystem) -> None:
        super().__init__(filesystem)
        self._known: dict[str, Any] = {}

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **_: Any,
    ) -> Any:
        """Return everything below `path`; `maxdepth` is ignored, as patterns filter by depth."""
        below = pafs.FileSelector(
            self._strip_protocol(path).rstrip("/"), recursive=True, allow_not_found=True
        )
        entries = [self._make_entry(info) for info in self.fs.get_file_info(below)]
        found = {e["name"]: e for e in entries if withdirs or e["type"] == "file"}
        self._known.update(found)
        return found if detail else sorted(found)

    def info(self, path: str, **_: Any) -> Any:
        """Return the file's information, from the last listing if it was in it."""
        path = self._strip_protocol(path)
        return self._known.get(path) or super().info(path)

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        opened = super()._open(path, mode, **more)
        if mode == "rb":  # it may have been replaced since it was listed
            known = {"name": path, "size": opened.size, "type": "file"}
            self._known[self._strip_protocol(path)] = known
        return opened
