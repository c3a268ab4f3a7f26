"""Sends requests to replicas, in chunks, and sends them again when a replica dies.

There is no HTTP: requests go through Serve's handles. Serve replaces a replica that died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from .applications import Application, call_replica
from .deployments import ONGOING_REQUESTS
from .launcher import ReplicaLauncher
from .stragglers import StragglerDetector
from .types import Reply, merge_replies

MAX_ATTEMPTS = 3
"""Replicas that may die of one request before its error is raised."""
QUEUE_FULL_SECONDS = 0.5
"""Seconds to wait before a request is sent again to a deployment whose queue is full."""
NO_APPLICATION_SECONDS = 1.0
"""Seconds between checks whether a deployment without any node has one again."""


class RequestDispatcher:
    """Calls the replicas that a launcher started."""

    def __init__(self, launcher: ReplicaLauncher, stragglers: StragglerDetector) -> None:
        self._launcher, self._stragglers = launcher, stragglers

    async def call_in_chunks(
        self,
        deployment: str,
        method: str,
        parameter: str,
        items: Sequence[Any],
        chunk: int,
        **arguments: Any,
    ) -> Reply[Any]:
        """Call `method` on `chunk` items at a time, passed as `parameter`; merge the replies."""
        chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]
        calls = (self.call(deployment, method, **{parameter: part}, **arguments) for part in chunks)
        return merge_replies(await asyncio.gather(*calls))

    async def call(self, deployment: str, method: str, **arguments: Any) -> Any:
        """Call `method` of one replica and return its result, retrying where the replica is lost.

        Raises what the replica raised, and Ray's `RayActorError` once `MAX_ATTEMPTS` replicas died.
        A node that left and a full queue do not count as attempts.
        """
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import BackPressureError

        attempts = 0
        state = getattr(arguments.get("weights"), "full_state_id", None)
        label = f"for state {state}" if state else ""
        while True:
            application = self._choose(deployment, state)
            if application is None:  # its nodes left: wait until it is placed on others
                await asyncio.sleep(NO_APPLICATION_SECONDS)
                continue
            application.last_state = state
            call = asyncio.ensure_future(call_replica(application.handle, method, arguments))
            application.calls.add(call)
            try:
                with self._stragglers.timing(f"{method} on {deployment}", label):
                    return await call
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not application.node_left or (task and task.cancelling()):
                    raise
            except BackPressureError:
                await asyncio.sleep(QUEUE_FULL_SECONDS)
            except RayActorError:  # also ActorDiedError and ActorUnavailableError
                attempts += 1
                if attempts >= MAX_ATTEMPTS:
                    raise
            finally:
                call.cancel()
                application.calls.discard(call)

    def _choose(self, deployment: str, state: str | None) -> Application | None:
        """Return the least busy application that was last used for `state` and has a free slot,
        else the least busy of all; None if there is none."""
        running = self._launcher.applications(deployment)
        holding = [
            each
            for each in running
            if each.last_state == state and len(each.calls) < each.replicas * ONGOING_REQUESTS
        ]
        return min(
            holding or running, key=lambda each: len(each.calls) / each.replicas, default=None
        )
