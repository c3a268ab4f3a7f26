"""What a driver works on, so that another sweep's driver on the same results leaves it alone.

`leases/work/<name>.json` names the lease of the driver that computes a state or trains a scorer.
The claim counts as long as that lease does: a driver that ends, or dies, leaves nothing claimed.
What is recorded is told by the record, never by a claim.

On a local folder claims are taken under a file lock, all of them or none. On an object store a
driver reads each and at once writes its own, waits `SETTLE` seconds and reads them back, as for
leases: drivers that claim the same at once may both give way, and try again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from urllib.parse import quote

from ..storage.folder import Folder
from .sweep_lease import SETTLE, SweepLease, alone_with_leases, holder


class StateClaims:
    """The claims of one driver, who holds `lease`. Threads may share it."""

    def __init__(self, folder: Folder, lease: SweepLease) -> None:
        self._folder, self._lease = folder, lease
        self._mine = json.dumps({"sweep": lease.sweep, "token": lease.token}).encode()

    def take(self, names: Iterable[str]) -> bool:
        """Claim all of these, or none where another driver that lives has one of them.

        `ResultsError` where the store cannot be read or written.
        """
        files = [_file(name) for name in names]
        with alone_with_leases(self._folder):
            for number, file in enumerate(files):
                if self._elsewhere(file):
                    self._drop(files[:number])
                    return False
                self._folder.put(file, self._mine)
        if self._folder.local is None:
            time.sleep(SETTLE)
            if any(map(self._elsewhere, files)):
                self._drop(files)
                return False
        return True

    def free(self, names: Iterable[str]) -> None:
        """Give up claims, of what is recorded or failed; others' are left."""
        self._drop([_file(name) for name in names])

    def _drop(self, files: Iterable[str]) -> None:
        self._folder.delete([file for file in files if self._folder.get(file) == self._mine])

    def _elsewhere(self, file: str) -> bool:
        """Whether another driver that lives claims it."""
        data = self._folder.get(file)
        if data is None or data == self._mine:
            return False
        try:
            claim = json.loads(data)
            lease = holder(self._folder, claim["sweep"])
        except (ValueError, TypeError, KeyError):
            return False  # half a claim is none: its writer died
        return lease is not None and lease.token == claim["token"] and not lease.expired()


def _file(name: str) -> str:
    return f"leases/work/{quote(name, safe='')}.json"
