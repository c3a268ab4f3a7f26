"""Starts, calls and stops a Ray Serve application: a deployment's replicas on one node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..cluster.ray_cluster import departed_nodes
from .deployments import shut_down_all
from .errors import EngineError
from .stragglers import SLOW_FACTOR, StragglerDetector

if TYPE_CHECKING:
    from ray.serve import RunTarget

POLL_SECONDS = 1.0
"""Interval (seconds) between checks whether an application has started. Each check is one call to
Serve, which reports all applications."""
START_SECONDS = 120.0
"""Usual duration of an application's start (seconds); large models and slow disks take longer."""


class NodeLeftError(EngineError):
    """An application did not start because its node has left the cluster, or will leave soon."""


@dataclass
class Application:
    """A running application; `name` is its name in Serve."""

    name: str
    handle: Any
    replicas: int
    calls: set[asyncio.Future[Any]] = field(default_factory=set)
    """Requests in flight."""
    node_left: bool = False
    last_state: str | None = None
    """Id of the full state that the last request evaluated."""


class ServeStarter:
    """Starts Serve on the cluster once, without its HTTP proxy."""

    def __init__(self) -> None:
        self._started = False
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Start Serve, or connect to it if another driver has started it."""
        from ray import serve

        async with self._lock:
            if not self._started:
                await asyncio.to_thread(serve.start, proxy_location="Disabled")
                self._started = True


async def call_replica(handle: Any, method: str, arguments: Mapping[str, Any]) -> Any:
    """Call a method of one of the deployment's replicas and return its result."""
    return await getattr(handle, method).remote(**arguments)


async def start_application(
    target: RunTarget,
    deployment: str,
    replicas: int,
    node: str | None,
    stragglers: StragglerDetector,
) -> tuple[Application, dict[str, Any]]:
    """Start or resize an application; return it and the description that its replicas give.

    Raises `EngineError` with the reason if it does not start, and the subclass `NodeLeftError` if
    the reason is that `node` left the cluster. A cancelled start leaves no application behind.
    """
    from ray import serve

    starting = asyncio.ensure_future(_run(target))
    try:
        with stragglers.timing("the start of", target.name, START_SECONDS):
            handle, description = await asyncio.shield(starting)
    except asyncio.CancelledError:  # Serve would finish the start and keep it
        await asyncio.wait([starting], timeout=SLOW_FACTOR * START_SECONDS)
        if not starting.done():
            starting.cancel()
            await asyncio.to_thread(serve.delete, target.name, _blocking=False)
        elif starting.exception() is None:
            await end_application(Application(target.name, starting.result()[0], replicas))
        raise
    except RuntimeError as e:
        await asyncio.to_thread(serve.delete, target.name)
        node_left = node is not None and bool(await asyncio.to_thread(departed_nodes, [node]))
        raise (NodeLeftError if node_left else EngineError)(
            f"{deployment} cannot start: {e}"
        ) from None
    return Application(target.name, handle, replicas), description


async def end_application(application: Application) -> None:
    """Stop an application: end its replicas' processes and release their resources."""
    from ray import serve

    await shut_down_all(application.handle, application.replicas)
    try:
        await asyncio.to_thread(serve.delete, application.name)
    except TimeoutError as e:  # Serve continues in the background; no need to wait
        logging.getLogger(__name__).warning("%s", e)


async def drop_application(name: str, application: Application | None) -> None:
    """Cancel the requests of an application whose node left the cluster, and delete it.

    `application` is None if it had not started yet.
    """
    from ray import serve

    if application is not None:
        application.node_left = True
        for call in application.calls:  # they would wait for a replica forever
            call.cancel()
    await asyncio.to_thread(serve.delete, name, _blocking=False)


async def _run(target: RunTarget) -> tuple[Any, dict[str, Any]]:
    """Deploy an application; return its handle and description once all replicas run.

    Raises `RuntimeError` with the last line of the reason if it does not start. This includes an
    application that is deleted before it runs: `ReplicaLauncher.place` deletes it if its node left
    the cluster. `serve.run` is not used, because it would then block its thread forever. A request
    to a dead replica would also wait forever.
    """
    from ray import serve
    from ray.exceptions import RayActorError

    [handle] = await asyncio.to_thread(
        serve.run_many, [target], wait_for_applications_running=False
    )
    describing: asyncio.Future[dict[str, Any]] | None = None
    try:
        while True:
            running = await asyncio.to_thread(_is_running, target.name)
            if running and describing is None:
                describing = asyncio.ensure_future(call_replica(handle, "describe", {}))
            if describing is not None:
                await asyncio.wait([describing], timeout=POLL_SECONDS)
                if describing.done() and not isinstance(describing.exception(), RayActorError):
                    return handle, describing.result()
            if describing is None or describing.done():  # not running, or its replica has died
                describing = None
                await asyncio.sleep(POLL_SECONDS)
    finally:
        if describing is not None:
            describing.cancel()


def _is_running(name: str) -> bool:
    """Return whether all replicas of an application run.

    Raises `RuntimeError` if they never will.
    """
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    found = serve.status().applications.get(name)
    if found is None or found.status == ApplicationStatus.DELETING:
        raise RuntimeError("its application was deleted, as its node has left the cluster")
    if found.status == ApplicationStatus.DEPLOY_FAILED:
        raise RuntimeError(_failure_message(found) or found.message)
    return bool(found.status == ApplicationStatus.RUNNING)


def _failure_message(application: Any) -> str | None:
    """Return the last line of what Serve reports about an application's deployments."""
    for deployment in application.deployments.values():
        lines = [line for line in str(deployment.message).splitlines() if line.strip()]
        if lines:
            return lines[-1].strip()[:500]
    return None
