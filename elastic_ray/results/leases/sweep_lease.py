"""The sweep lease: one driver at a time runs a sweep on a results folder, and others can see it.

`leases/<sweep>.json` says who runs the sweep, since when, its progress, and its last heartbeat. Its
holder rewrites it every `HEARTBEAT_SECONDS` and deletes it at the end. It has expired when it is
older than `EXPIRY_SECONDS`, or when its process ran on this machine and is gone: then another
driver may take it.

Guarantees. On a local folder the lease is taken under a file lock: two drivers never both take it
(on a network file system, as far as its locks hold). An object store has no lock: there a driver
writes its own token, waits `SETTLE_SECONDS` and reads it back, so of two that start together one
gives way, unless the store or a driver stalls for longer than that. Everywhere, a holder that finds
another's token at a heartbeat (it was suspended beyond `EXPIRY_SECONDS`, or lost such a race) stops
as on Ctrl-C; until that heartbeat both may compute. The record stays correct in any case: files are
written whole, and a state's rows once. Ages compare the clocks of two machines, which must agree to
some seconds. A lease covers one sweep name in one results folder; `state_claims` keeps apart what
two sweeps share there.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

from ..errors import ResultsError
from ..storage.folder import Folder

HEARTBEAT_SECONDS = 5.0
EXPIRY_SECONDS = 60.0
SETTLE_SECONDS = 2.0
POLL_SECONDS = 1.0
"""Interval of the checks for a stop request."""


class SweepLeaseHeld(ResultsError):
    """Another driver holds the lease: it runs the sweep on these results."""


@dataclass(frozen=True)
class SweepLease:
    """Who runs a sweep; times in seconds since 1970.

    `token` identifies the run. `place` identifies the machine and process namespace, `born` tells a
    process from a later one with the same `pid`. `since` is the start, `heard` the last heartbeat.
    """

    sweep: str
    token: str
    host: str
    pid: int
    place: str
    born: str
    since: float
    heard: float
    progress: str

    def expired(self) -> bool:
        """Return whether the holder is dead or has sent no heartbeat for `EXPIRY_SECONDS`."""
        if time.time() - self.heard > EXPIRY_SECONDS:
            return True
        return self.place == _machine_id() and self.born != _process_start(self.pid)

    def description(self) -> str:
        """Return who holds the lease, as shown to users."""
        return f"process {self.pid} on {self.host}"


def current_lease(folder: Folder, sweep: str) -> SweepLease | None:
    """Return the sweep's lease, expired or not; None if nobody runs the sweep.

    `ResultsError` if it cannot be read.
    """
    name = _lease_file(sweep)
    data = folder.get(name)
    if data is None:
        return None
    try:
        return SweepLease(**json.loads(data))
    except (ValueError, TypeError) as e:
        raise ResultsError(
            f"{folder.path(name)} is not a lease ({e}); if nobody runs {sweep}, delete it"
        ) from e


def active_leases(folder: Folder) -> list[SweepLease]:
    """Return the leases that have not expired: the sweeps that run on these results."""
    names = (name for name in folder.names("leases") if name.endswith(".json"))
    found = (current_lease(folder, unquote(name.removesuffix(".json"))) for name in names)
    return [lease for lease in found if lease is not None and not lease.expired()]


def request_stop(folder: Folder, lease: SweepLease) -> None:
    """Ask the lease's holder to stop as on Ctrl-C; it checks every `POLL_SECONDS`."""
    folder.put(_stop_file(lease.sweep), lease.token.encode())


@contextlib.contextmanager
def acquire_sweep_lease(
    folder: Folder, sweep: str, progress: Callable[[], str], stop: Callable[[str], None]
) -> Iterator[SweepLease]:
    """Hold the sweep's lease inside the context; `SweepLeaseHeld` if another driver holds it.

    `progress` returns one line of text for users who ask. `stop` is called once, from another
    thread, with the reason: a stop request, or another driver holds the lease by now.
    """
    lease = _acquire(folder, sweep)
    done = threading.Event()
    thread = threading.Thread(
        target=_send_heartbeats,
        args=(folder, lease, progress, stop, done),
        name="lease",
        daemon=True,
    )
    thread.start()
    try:
        yield lease
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(ResultsError, OSError):  # it expires by itself
            current = current_lease(folder, sweep)
            if current and current.token == lease.token:
                folder.delete([_stop_file(sweep), _lease_file(sweep)])


def _acquire(folder: Folder, sweep: str) -> SweepLease:
    now = time.time()
    lease = SweepLease(
        sweep=sweep,
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        place=_machine_id(),
        born=_process_start(os.getpid()),
        since=now,
        heard=now,
        progress="",
    )
    with lease_lock(folder):
        current = current_lease(folder, sweep)
        if current and not current.expired():
            raise _held_error(current)
        _write(folder, lease)
    if folder.local is None:
        time.sleep(SETTLE_SECONDS)
        current = current_lease(folder, sweep)
        if current and current.token != lease.token:
            raise _held_error(current)
    return lease


def _held_error(lease: SweepLease) -> SweepLeaseHeld:
    age = max(time.time() - lease.heard, 0)
    return SweepLeaseHeld(
        f"sweep {lease.sweep} already runs on these results: {lease.description()}, last heartbeat "
        f"{age:.0f} s ago; --status shows it, --stop stops it, and if it is dead, its lease "
        f"expires {EXPIRY_SECONDS:.0f} s after the last heartbeat"
    )


def _send_heartbeats(
    folder: Folder,
    lease: SweepLease,
    progress: Callable[[], str],
    stop: Callable[[str], None],
    done: threading.Event,
) -> None:
    """Rewrite the lease and check for stop requests until `done` is set."""
    last, stopped = time.monotonic(), False
    while not done.wait(POLL_SECONDS):
        # If the store fails, the next poll retries; after EXPIRY_SECONDS the lease has expired.
        with contextlib.suppress(ResultsError, OSError):
            request = folder.get(_stop_file(lease.sweep))
            if request == lease.token.encode() and not stopped:
                stopped = True
                stop("a stop was requested with --stop")
            if time.monotonic() - last < HEARTBEAT_SECONDS:
                continue
            with lease_lock(folder):
                current = current_lease(folder, lease.sweep)
                if current and current.token != lease.token:
                    if not stopped:
                        stop(f"{current.description()} runs this sweep now")
                    return
                _write(folder, replace(lease, heard=time.time(), progress=progress()))
            last = time.monotonic()


def _write(folder: Folder, lease: SweepLease) -> None:
    folder.put(_lease_file(lease.sweep), json.dumps(asdict(lease), indent=1).encode())


def _lease_file(sweep: str) -> str:
    return f"leases/{quote(sweep, safe='')}.json"


def _stop_file(sweep: str) -> str:
    return f"leases/{quote(sweep, safe='')}.stop"


@contextlib.contextmanager
def lease_lock(folder: Folder) -> Iterator[None]:
    """Hold the file lock over all leases of a local folder; on an object store there is no lock."""
    if folder.local is None:
        yield
        return
    import fcntl

    leases = folder.local / "leases"
    leases.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(leases / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _machine_id() -> str:
    """Return an id of this machine's boot and process namespace; unique if it is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return uuid.uuid4().hex  # never equal: a lease then expires by its age alone


def _process_start(pid: int) -> str:
    """Return the process's start in clock ticks since the machine's boot; "" if it is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if after_name[0] in "ZX" else after_name[19]
    except (OSError, IndexError):
        return ""
