"""The worker groups of a sweep: actors of the driver, which live longer than a trial."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from ..cluster.ray_cluster import NODE_ID
from ..spec import Runtime
from ..training.worker_group import WorkerGroup

RESPONSE_TIMEOUT = 5.0
"""Seconds within which a living group responds."""


class WorkerGroups:
    """Starts and ends worker groups that train as `runtime` says. Thread-safe.

    A group is known by its name, by which a trial's process finds its actor. Groups end with the
    driver, also if it is killed.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._numbers = itertools.count(1)
        self._actors: dict[str, Any] = {}

    def start(self, nodes: tuple[str, ...]) -> str:
        """Start a group with a worker on each of these nodes; return its name at once."""
        name = f"elastic_ray-workers-{next(self._numbers)}"
        # The actor is on a node of its workers: there is no other node to lose.
        place = {NODE_ID: nodes[0]} if nodes else None
        actor = ray.remote(num_cpus=0)(WorkerGroup).options(name=name, label_selector=place)
        self._actors[name] = actor.remote(self._runtime, nodes)
        return name

    def responds(self, group: str) -> bool:
        """Return whether the group's actor and its workers are alive."""
        with contextlib.suppress(RayError, GetTimeoutError):
            ray.get(self._actors[group].node.remote(), timeout=RESPONSE_TIMEOUT)
            return True
        return False

    def close(self, group: str) -> None:
        """Let an idle group end by itself, which frees its resources in about a second."""
        # The reference keeps the actor alive until its workers have ended.
        self._actors[group].close.remote()

    def kill(self, group: str) -> None:
        """End a group's processes at once. Its resources are freed within seconds (`reaper`)."""
        ray.kill(self._actors.pop(group))
