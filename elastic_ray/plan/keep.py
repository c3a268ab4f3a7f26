"""Which checkpoints a sweep's `keep` setting leaves behind when the sweep has ended. Pure."""

from __future__ import annotations


def keeps_checkpoint(keep: str, kind: str) -> bool:
    """Return whether `keep` leaves the checkpoint of a state of this stage kind ("start": none)."""
    return keep == "all" or (keep == "base" and kind in ("start", "pretrain"))
