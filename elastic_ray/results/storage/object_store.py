"""Remote stores: opened by their URI, asked again where they refuse, and shown to DuckDB.

S3 (`s3://`), Google's (`gs://`) and Azure's (`abfs://`) are opened by pyarrow, anything else by
fsspec, as far as it knows the scheme. DuckDB reads through the same filesystem as everything else
here, so that what is refused is asked again by one rule, for whoever reads.
"""

from __future__ import annotations

from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs
from fsspec.implementations.arrow import ArrowFSWrapper

from ..schemas import ResultsError

ATTEMPTS = 10
"""Of a request to S3, with pauses that double from 50 ms: some 25 s in all. A store that refuses
one request in ten then fails one in 10^10."""
PATIENT = 13
"""The same where hours of work wait for the answer: some three and a half minutes."""


def open_store(uri: str, attempts: int = ATTEMPTS) -> tuple[pafs.FileSystem, str, Any]:
    """(pyarrow filesystem, path on it, the same as an fsspec filesystem for DuckDB).

    `ResultsError` where the scheme is unknown or the store cannot be opened.
    """
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
        if isinstance(filesystem, pafs.S3FileSystem):
            filesystem = _asking(filesystem, attempts)
        return filesystem, path.rstrip("/"), Listed(filesystem)
    except pa.ArrowInvalid:
        pass  # pyarrow does not know the scheme; fsspec may
    except OSError as e:
        raise ResultsError(f"cannot open the results at {uri}: {e}") from e
    try:
        other, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError, OSError) as e:
        raise ResultsError(f"cannot open the results at {uri}: {e}") from e
    return pafs.PyFileSystem(pafs.FSSpecHandler(other)), path.rstrip("/"), other


def _asking(filesystem: pafs.S3FileSystem, attempts: int) -> pafs.S3FileSystem:
    """The same, asking so many times, and writing a small file with one request, not three.

    Arrow asks three times and a URI cannot say otherwise; the options of a filesystem are told by
    pickle alone. The SDK's other strategy, "standard", asks again a hundred times in the life of a
    filesystem and never after: its allowance is refilled by a call that Arrow does not make. A
    sweep on a store that refused one request in ten came to its end so.
    """
    options = filesystem.__reduce__()[1][0] | {"allow_delayed_open": True}
    return pafs.S3FileSystem(
        **options, retry_strategy=pafs.AwsDefaultS3RetryStrategy(max_attempts=attempts)
    )


class Listed(ArrowFSWrapper):
    """A pyarrow filesystem for DuckDB, which asks for patterns of names, sizes and bytes.

    Everything below a folder is listed at once, and a listing that fails raises: fsspec's own
    leaves out a folder that cannot be listed, and its rows would be missing without a word. What
    the last listing said of a file is not asked again: DuckDB would ask ten times a file.
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
        """Everything below `path`, also below `maxdepth`, which a pattern leaves out itself."""
        below = pafs.FileSelector(
            self._strip_protocol(path).rstrip("/"), recursive=True, allow_not_found=True
        )
        entries = [self._make_entry(info) for info in self.fs.get_file_info(below)]
        found = {e["name"]: e for e in entries if withdirs or e["type"] == "file"}
        self._known.update(found)
        return found if detail else sorted(found)

    def info(self, path: str, **_: Any) -> Any:
        path = self._strip_protocol(path)
        return self._known.get(path) or super().info(path)

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        opened = super()._open(path, mode, **more)
        if mode == "rb":  # it may have been replaced since it was listed
            known = {"name": path, "size": opened.size, "type": "file"}
            self._known[self._strip_protocol(path)] = known
        return opened
