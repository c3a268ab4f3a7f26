"""A sweep's lease: one driver at a time runs a sweep on a results folder, and others see who.

`leases/<sweep>.json` says who runs the sweep, since when, how far it is, and when it was last heard
of. Its holder rewrites it every `BEAT` seconds and deletes it at the end. It has expired when it is
older than `EXPIRES`, or when its process lived on this machine and is gone: then the next takes it.

What it guarantees. On a local folder, taking is done under a file lock: two drivers never both take
a lease (on a network file system, as far as its locks hold). An object store has no lock: there a
driver writes its own token, waits `SETTLE` seconds and reads it back, so two that start together
are told apart unless the store or a driver stalls for longer than that. Everywhere, a holder that
finds another's token at a beat (it was suspended beyond `EXPIRES`, or lost such a race) stops as on
Ctrl-C; until that beat both may compute. The record itself never suffers: files are written whole,
and a state's rows once. Ages compare clocks of two machines: they must agree to some seconds. The
lease is of a sweep's name in one results folder; what two sweeps there share is kept apart by
`work`.
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

from ..schemas import ResultsError
from ..storage.folder import Folder

BEAT = 5.0
EXPIRES = 60.0
SETTLE = 2.0
LOOK = 1.0
"""Seconds between looks for a request to stop."""


class HeldElsewhere(ResultsError):
    """Another driver runs the sweep on these results."""


@dataclass(frozen=True)
class SweepLease:
    """Who runs a sweep; times in seconds since 1970.

    `place` tells one machine and process namespace from another, `born` a process from a later one
    of the same number.
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
        if time.time() - self.heard > EXPIRES:
            return True
        return self.place == _place() and self.born != _born(self.pid)

    def words(self) -> str:
        """Who, for people."""
        return f"process {self.pid} on {self.host}"


def holder(folder: Folder, sweep: str) -> SweepLease | None:
    """The sweep's lease as it stands, expired or not; None if nobody runs the sweep.

    `ResultsError` where it cannot be read.
    """
    name = _lease(sweep)
    data = folder.get(name)
    if data is None:
        return None
    try:
        return SweepLease(**json.loads(data))
    except (ValueError, TypeError) as e:
        raise ResultsError(
            f"{folder.path(name)} is not a lease ({e}); if nobody runs {sweep}, delete it"
        ) from e


def running(folder: Folder) -> list[SweepLease]:
    """The leases that have not expired: the sweeps that run on these results."""
    names = (name for name in folder.names("leases") if name.endswith(".json"))
    found = (holder(folder, unquote(name.removesuffix(".json"))) for name in names)
    return [lease for lease in found if lease is not None and not lease.expired()]


def ask_to_stop(folder: Folder, lease: SweepLease) -> None:
    """Ask the lease's holder to stop as on Ctrl-C; it looks every `LOOK` seconds."""
    folder.put(_stop(lease.sweep), lease.token.encode())


@contextlib.contextmanager
def hold(
    folder: Folder, sweep: str, progress: Callable[[], str], stop: Callable[[str], None]
) -> Iterator[SweepLease]:
    """Hold the sweep's lease; `HeldElsewhere` if another driver does.

    `progress` gives a line of words for those who ask. `stop` is called once, from another thread,
    with the reason: someone asked for it, or the lease is another's by now.
    """
    lease = _take(folder, sweep)
    done = threading.Event()
    thread = threading.Thread(
        target=_beat, args=(folder, lease, progress, stop, done), name="lease", daemon=True
    )
    thread.start()
    try:
        yield lease
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(ResultsError, OSError):  # it expires by itself
            held = holder(folder, sweep)
            if held and held.token == lease.token:
                folder.delete([_stop(sweep), _lease(sweep)])


def _take(folder: Folder, sweep: str) -> SweepLease:
    now = time.time()
    lease = SweepLease(
        sweep=sweep,
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        place=_place(),
        born=_born(os.getpid()),
        since=now,
        heard=now,
        progress="",
    )
    with alone_with_leases(folder):
        held = holder(folder, sweep)
        if held and not held.expired():
            raise _refusal(held)
        _write(folder, lease)
    if folder.local is None:
        time.sleep(SETTLE)
        held = holder(folder, sweep)
        if held and held.token != lease.token:
            raise _refusal(held)
    return lease


def _refusal(held: SweepLease) -> HeldElsewhere:
    return HeldElsewhere(
        f"sweep {held.sweep} is run on these results by {held.words()}, heard of "
        f"{max(time.time() - held.heard, 0):.0f} s ago; --status shows it, --stop stops it, and "
        f"if it is dead, it is free {EXPIRES:.0f} s after it was last heard of"
    )


def _beat(
    folder: Folder,
    lease: SweepLease,
    progress: Callable[[], str],
    stop: Callable[[str], None],
    done: threading.Event,
) -> None:
    beaten, stopped = time.monotonic(), False
    while not done.wait(LOOK):
        # A store that fails now is asked again at the next look; past EXPIRES the lease is free.
        with contextlib.suppress(ResultsError, OSError):
            wish = folder.get(_stop(lease.sweep))
            if wish == lease.token.encode() and not stopped:
                stopped = True
                stop("someone asked for it with --stop")
            if time.monotonic() - beaten < BEAT:
                continue
            with alone_with_leases(folder):
                held = holder(folder, lease.sweep)
                if held and held.token != lease.token:
                    if not stopped:
                        stop(f"{held.words()} runs this sweep by now")
                    return
                _write(folder, replace(lease, heard=time.time(), progress=progress()))
            beaten = time.monotonic()


def _write(folder: Folder, lease: SweepLease) -> None:
    folder.put(_lease(lease.sweep), json.dumps(asdict(lease), indent=1).encode())


def _lease(sweep: str) -> str:
    return f"leases/{quote(sweep, safe='')}.json"


def _stop(sweep: str) -> str:
    return f"leases/{quote(sweep, safe='')}.stop"


@contextlib.contextmanager
def alone_with_leases(folder: Folder) -> Iterator[None]:
    """Alone with the leases of a local folder; on an object store, not alone."""
    if folder.local is None:
        yield
        return
    import fcntl

    place = folder.local / "leases"
    place.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _place() -> str:
    """This machine since its last start, and the process namespace; unique where it is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return uuid.uuid4().hex  # never equal: a lease then expires by its age alone


def _born(pid: int) -> str:
    """When the process was started, in clock ticks since the machine's start; "" if it is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if after_name[0] in "ZX" else after_name[19]
    except (OSError, IndexError):
        return ""
