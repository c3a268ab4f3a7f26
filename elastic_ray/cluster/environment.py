"""Makes the environment of this process and its children one in which Ray and the engines can run.

A container may have a home that cannot be written, a proxy that is also asked for this machine, or
a folder of temporary files whose path is too long for the name of a socket. Each is worked around
here, before Ray is imported, and told. Imports no Ray.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_TEMPORARY = 35
"""Longest path of the folder for Ray's files: a socket's name has at most 107 bytes, and Ray adds
`ray/session_<date>_<number>/sockets/plasma_store`."""
MAX_SOCKET_FOLDER = 60
"""Longest path of the folder for vLLM's sockets, to which it adds a random name."""


def prepare_environment() -> list[str]:
    """Set what Ray, Hugging Face and vLLM read; return a line for each thing worked around."""
    _proxies()
    return [*_home(), *_temporary_folder()]


def _home() -> Iterator[str]:
    """Replace a home that cannot be written: Ray keeps a token there, libraries their caches."""
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry, and without HOME
        home = Path("/nonexistent")
    try:
        with tempfile.TemporaryFile(dir=home):  # permissions alone do not tell
            return
    except OSError:
        pass
    cache = home / ".cache" / "huggingface"
    if cache.is_dir():
        os.environ.setdefault("HF_HOME", str(cache))  # what was downloaded is still read
    os.environ["HOME"] = str(_own_folder(Path(tempfile.gettempdir())))
    yield (
        f"HOME ({home}) cannot be written; Ray's token and caches go to {os.environ['HOME']} "
        "(set HOME to a folder of your own to keep them)"
    )


def _own_folder(parent: Path) -> Path:
    """Return a folder below `parent` that belongs to this user alone, kept between runs."""
    folder = parent / f"elastic-ray-home-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        is_own = found.st_uid == os.getuid() and not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        if stat.S_ISDIR(found.st_mode) and is_own:
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="elastic-ray-home-", dir=parent))


def _temporary_folder() -> Iterator[str]:
    """Keep sockets out of a folder of temporary files with a long path."""
    ray = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    if len(os.fsencode(os.path.abspath(ray))) > MAX_TEMPORARY and os.access("/tmp", os.W_OK):
        os.environ["RAY_TMPDIR"] = "/tmp"
        yield f"{ray} is too long a path for Ray's sockets; Ray's files go to /tmp/ray"
    if len(os.fsencode(tempfile.gettempdir())) > MAX_SOCKET_FOLDER:
        os.environ.setdefault("VLLM_RPC_BASE_PATH", "/tmp")


def _proxies() -> None:
    """Keep requests to this machine from a proxy."""
    names = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
    if any(os.environ.get(name) or os.environ.get(name.upper()) for name in names):
        given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        hosts = [host for host in given.split(",") if host]
        if "*" not in hosts:
            hosts += [host for host in LOOPBACK if host not in hosts]
            os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)
