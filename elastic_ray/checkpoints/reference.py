"""References to checkpoints as the results record them in the column `states.checkpoint`.

A recorded value is `hub:REPO@REVISION`, `checkpoints/STATE_ID` (a folder inside the results), or
the path of any other folder. `CheckpointReference` is the only reader and writer of that format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_HUB = "hub:"
_STORED = "checkpoints/"


@dataclass(frozen=True, slots=True)
class CheckpointReference:
    """A recorded checkpoint. Exactly one of `hub`, `stored` and `folder` is set."""

    hub: str | None = None
    """Repository id on the hub, at the commit `revision`."""
    revision: str | None = None
    stored: str | None = None
    """Name of the folder relative to the results, e.g. "checkpoints/4c1f9efc40f4f9b3e7d6"."""
    folder: str | None = None
    """Path of a folder outside the results."""

    @classmethod
    def parse(cls, recorded: str) -> CheckpointReference:
        """Return the reference that `recorded`, a value of the column `checkpoint`, stands for."""
        if recorded.startswith(_HUB):
            repo, _, revision = recorded.removeprefix(_HUB).rpartition("@")
            return cls(hub=repo, revision=revision)
        if recorded.startswith(_STORED):
            return cls(stored=recorded)
        return cls(folder=recorded)

    @classmethod
    def of_state(cls, state_id: str) -> CheckpointReference:
        """Return the reference to the checkpoint of a state that was trained into the results."""
        return cls(stored=f"{_STORED}{state_id}")

    def __str__(self) -> str:
        """Return the value to record."""
        if self.hub is not None:
            return f"{_HUB}{self.hub}@{self.revision}"
        return self.stored or self.folder or ""

    def source(self, location: Callable[[str], str]) -> tuple[str, str | None]:
        """Return (hub id, revision), or (folder path or URI, None).

        `location` maps a name relative to the results to its path or URI.
        """
        if self.hub is not None:
            return self.hub, self.revision
        if self.stored is not None:
            return location(self.stored), None
        return self.folder or "", None
