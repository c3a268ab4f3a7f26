"""Worker groups without processes, for tests of trainer slots."""

from __future__ import annotations


class FakeGroups:
    """Worker groups without processes; `dead` are those that do not respond."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.living: set[str] = set()
        self.dead: set[str] = set()

    def start(self, nodes: tuple[str, ...]) -> str:
        name = f"group {len(self.started)} on {','.join(nodes)}"
        self.started.append(name)
        self.living.add(name)
        return name

    def responds(self, group: str) -> bool:
        return group not in self.dead

    def close(self, group: str) -> None:
        self.living.remove(group)

    def kill(self, group: str) -> None:
        self.living.remove(group)
