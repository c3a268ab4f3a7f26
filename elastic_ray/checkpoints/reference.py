"""References to checkpoints as the results record them: a hub id at a commit, or a folder."""

from __future__ import annotations

HUB = "hub:"


def hub_place(repo: str, revision: str) -> str:
    """How the `checkpoint` column names a hub checkpoint."""
    return f"{HUB}{repo}@{revision}"


def split_hub(place: str) -> tuple[str, str] | None:
    """(repo, revision) of a recorded hub checkpoint; None of any other place."""
    if not place.startswith(HUB):
        return None
    repo, _, revision = place.removeprefix(HUB).rpartition("@")
    return repo, revision
