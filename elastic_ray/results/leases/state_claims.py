"""State claims: a driver claims what it computes, so that other sweeps' drivers leave it alone.

`leases/work/<name>.json` names the sweep lease of the driver that computes a state or trains a
scorer. A claim is valid as long as that lease: a driver that ends or dies leaves nothing claimed.
Only the record says what is done, never a claim.

On a local folder claims are taken under a file lock, all of them or none. On an object store a
driver reads each claim and at once writes its own, waits `SETTLE_SECONDS` and reads them back, as
for leases: drivers that claim the same at once may both give way, and try again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from urllib.parse import quote

from ..storage.folder import Folder
from .sweep_lease import SETTLE_SECONDS, SweepLease, current_lease, lease_lock


class StateClaims:
    """The claims of the driver that holds `lease`; safe to share between threads."""

    def __init__(self, folder: Folder, lease: SweepLease) -> None:
        self._folder, self._lease = folder, lease
        self._mine = json.dumps({"sweep": lease.sweep, "token": lease.token}).encode()

    def claim(self, names: Iterable[str]) -> bool:
        """Claim all of these; return False and claim none if a live driver has one of them.

        `ResultsError` if the store cannot be read or written.
        """
        files = [_file(name) for name in names]
        with lease_lock(self._folder):
            for number, file in enumerate(files):
                if self._claimed_by_other(file):
                    self._delete_own(files[:number])
                    return False
                self._folder.put(file, self._mine)
        if self._folder.local is None:
            time.sleep(SETTLE_SECONDS)
            if any(map(self._claimed_by_other, files)):
                self._delete_own(files)
                return False
        return True

    def release(self, names: Iterable[str]) -> None:
        """Release own claims, of what is recorded or failed; claims of others stay."""
        self._delete_own([_file(name) for name in names])

    def _delete_own(self, files: Iterable[str]) -> None:
        self._folder.delete([file for file in files if self._folder.get(file) == self._mine])

    def _claimed_by_other(self, file: str) -> bool:
        """Return whether another live driver has this claim."""
        data = self._folder.get(file)
        if data is None or data == self._mine:
            return False
        try:
            claim = json.loads(data)
            lease = current_lease(self._folder, claim["sweep"])
        except (ValueError, TypeError, KeyError):
            return False  # an incomplete claim: its writer died
        return lease is not None and lease.token == claim["token"] and not lease.expired()


def _file(name: str) -> str:
    return f"leases/work/{quote(name, safe='')}.json"
