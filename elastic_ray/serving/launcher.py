"""Starts the deployments of a sweep, moves their replicas between nodes, and ends them.

A deployment is one engine group or scorer. It has one Serve application per node: Serve alone
would spread replicas freely, and a replica on resources meant for a trainer would block that
trainer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .applications import (
    POLL_SECONDS,
    Application,
    NodeLeftError,
    ServeStarter,
    drop_application,
    end_application,
    start_application,
)
from .errors import EngineError
from .start_queue import StartQueue
from .stragglers import StragglerDetector
from .types import EngineConfig, ScorerConfig

Bind = Callable[[int, str | None], Any]
"""Returns the bound Serve application of so many replicas on a node (None: any node)."""


class ReplicaLauncher:
    """The deployments of one driver, under application names that begin with `prefix`.

    `queue` says when an application may start.
    """

    def __init__(self, prefix: str, stragglers: StragglerDetector, queue: StartQueue) -> None:
        self._prefix, self._stragglers, self._queue = prefix, stragglers, queue
        self._binds: dict[str, Bind] = {}
        self._applications: dict[str, dict[str | None, Application]] = {}
        """Deployment -> node -> its application there."""
        self._places: dict[str, Mapping[str, int]] = {}
        """Deployment -> node -> number of replicas that it shall have there."""
        self._opening: set[str] = set()
        self._serve = ServeStarter()

    async def open(self, config: EngineConfig | ScorerConfig, bind: Bind) -> dict[str, Any]:
        """Start a deployment and return its description: `engine`, `notice` and `seconds`.

        Its replicas are where `place` says, before or meanwhile; while that is nowhere, this waits.
        Without a call of `place` there are `config.replicas`, wherever Ray finds resources. Raises
        `EngineError` if none starts.
        """
        began = time.monotonic()
        await self._serve.start()
        name = config.name
        self._binds[name], self._applications[name] = bind, {}
        self._opening.add(name)
        try:
            description, failures = await self._start_everywhere(name, config.replicas)
        finally:
            self._opening.discard(name)
        if not self._applications[name]:
            del self._binds[name], self._applications[name]
            raise failures[0]
        if failures:
            description["notice"] = f"some replicas did not start: {failures[0]}"
        return {**description, "seconds": time.monotonic() - began}

    async def _start_everywhere(
        self, name: str, replicas: int
    ) -> tuple[dict[str, Any], list[BaseException]]:
        """Start a deployment on its nodes, which may change meanwhile.

        Returns its description, and the failures on the nodes that it has in the end.
        """
        description: dict[str, Any] = {}
        while True:
            places, running = self._places.get(name), self._applications[name]
            wanted: dict[str | None, int] = {None: replicas}
            if places is not None:
                wanted = {node: count for node, count in places.items()}
            if not wanted:
                await asyncio.sleep(POLL_SECONDS)
                continue
            outcomes = await self._start_missing(name, running, wanted)
            for outcome in outcomes:
                description |= outcome if isinstance(outcome, dict) else {}
            failures = [each for each in outcomes if isinstance(each, BaseException)]
            if not running and any(isinstance(each, NodeLeftError) for each in failures):
                # Whoever calls `place` will see soon that the node left.
                while self._places.get(name) is places:
                    await asyncio.sleep(POLL_SECONDS)
            if self._places.get(name) is places:
                return description, failures

    async def _start_missing(
        self,
        name: str,
        running: Mapping[str | None, Application],
        wanted: Mapping[str | None, int],
    ) -> list[dict[str, Any] | BaseException]:
        """Start or enlarge the applications that have fewer replicas than wanted."""
        starts = [
            self._start(name, node, count)
            for node, count in wanted.items()
            if node not in running or running[node].replicas < count
        ]
        return await asyncio.gather(*starts, return_exceptions=True)

    async def _start(self, name: str, node: str | None, replicas: int) -> dict[str, Any]:
        """Start, or resize, a deployment's application on a node; return its description."""
        from ray import serve

        target = serve.RunTarget(
            self._binds[name](replicas, node), self._application_name(name, node), route_prefix=None
        )
        async with self._queue.turn():
            started, description = await start_application(
                target, name, replicas, node, self._stragglers
            )
        running = self._applications.get(name)
        if running is None or (node and node not in self._places[name]):  # closed or moved
            await end_application(started)
        else:
            # A resized application stays the same object, which holds the requests in flight.
            application = running.setdefault(node, started)
            application.handle, application.replicas = started.handle, replicas
        return description

    def _application_name(self, name: str, node: str | None) -> str:
        return f"{self._prefix}-{name}" + (f"-{node[:8]}" if node else "")

    async def place(self, name: str, places: Mapping[str, int]) -> list[str]:
        """Set on which nodes (by id) a deployment has how many replicas, now or once it opens.

        An open deployment starts replicas where there are too few. Nodes that are no longer named
        have left: their requests in flight are cancelled, and sent elsewhere by the dispatcher.
        Replicas on other nodes are not disturbed. Returns a message per application that did not
        start.
        """
        previous, self._places[name] = self._places.get(name, {}), places
        running = self._applications.get(name)
        if running is None:
            return []
        for node in previous.keys() - places.keys():
            await drop_application(self._application_name(name, node), running.pop(node, None))
        if name in self._opening:
            return []  # `open` sees the new places
        wanted: dict[str | None, int] = {node: count for node, count in places.items()}
        outcomes = await self._start_missing(name, running, wanted)
        failures = [each for each in outcomes if isinstance(each, BaseException)]
        for failure in failures:
            if not isinstance(failure, EngineError):
                raise failure
        return [str(failure) for failure in failures]

    async def withdraw(self, name: str) -> None:
        """End the replicas of an open deployment that has no request in flight.

        It stays open: `place` starts replicas again.
        """
        running = self._applications.get(name)
        if running is None or name in self._opening:
            return  # `place` stops what starts
        self._places[name] = {}
        ended = list(running.values())
        running.clear()
        await asyncio.gather(*map(end_application, ended))

    @property
    def replicas(self) -> dict[str, int]:
        """Number of replicas of each deployment that is open or opening, by name."""
        return {
            name: max(
                sum(self._places.get(name, {}).values()),
                sum(application.replicas for application in running.values()),
            )
            for name, running in self._applications.items()
        }

    def applications(self, name: str) -> Collection[Application]:
        """Return the running applications of an open deployment; `KeyError` if it is not open."""
        return self._applications[name].values()

    async def close(self, name: str) -> None:
        """End a deployment: its replicas, their processes and their resources."""
        self._binds.pop(name, None)
        running = self._applications.pop(name, {}).values()
        await asyncio.gather(*(end_application(application) for application in running))

    async def shut_down(self) -> None:
        """End all deployments; Serve itself may be another sweep's too, and stays."""
        await asyncio.gather(*(self.close(name) for name in list(self._applications)))
