"""Starts one Ray Serve application per engine group or scorer, and calls its replicas."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..cluster.ray_cluster import NODE_ID
from .engines.vllm_engine import vllm_environment
from .errors import EngineError
from .types import EngineConfig, ScorerConfig

POLL = 1.0
"""Seconds between looks whether a deployment has started; Serve tells of all that run at once."""


class _NodeGone(EngineError):
    """It could not start, on a node that has left the cluster, or is about to."""


@dataclass
class _Application:
    """The replicas of a deployment on one node, under one of Serve's application names."""

    name: str
    handle: Any
    replicas: int
    calls: set[asyncio.Future[Any]] = field(default_factory=set)
    """Requests that are out."""
    gone: bool = False
    held: str | None = None
    """The state that was last asked about there."""


async def _call(handle: Any, method: str, arguments: Mapping[str, Any]) -> Any:
    return await getattr(handle, method).remote(**arguments)


async def _run(target: Any) -> tuple[Any, dict[str, Any]]:
    """Have Serve run an application: its handle, and what a replica says of itself, once all are
    there.

    Raises RuntimeError with the last line of what kept it from starting, or if it is deleted
    meanwhile, as `place` does where a node is gone. `serve.run` would wait on for good, in a thread
    that nothing ends; so would a request whose replica is gone.
    """
    from ray import serve
    from ray.exceptions import RayActorError

    [handle] = await asyncio.to_thread(
        serve.run_many, [target], wait_for_applications_running=False
    )
    said: asyncio.Future[dict[str, Any]] | None = None
    try:
        while True:
            running = await asyncio.to_thread(_is_running, target.name)
            if running and said is None:
                said = asyncio.ensure_future(_call(handle, "describe", {}))
            if said is not None:
                await asyncio.wait([said], timeout=POLL)
                if said.done() and not isinstance(said.exception(), RayActorError):
                    return handle, said.result()
            if said is None or said.done():  # it starts, or Serve starts another replica
                said = None
                await asyncio.sleep(POLL)
    finally:
        if said is not None:
            said.cancel()


def _is_running(name: str) -> bool:
    """Whether all replicas of an application are there; RuntimeError if they will not be."""
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    found = serve.status().applications.get(name)
    if found is None or found.status == ApplicationStatus.DELETING:
        raise RuntimeError("its node is gone")
    if found.status == ApplicationStatus.DEPLOY_FAILED:
        raise RuntimeError(_why_not(found) or found.message)
    return bool(found.status == ApplicationStatus.RUNNING)


def _why_not(application: Any) -> str | None:
    """The last line of what Serve says of an application's deployments."""
    for deployment in application.deployments.values():
        lines = [line for line in deployment.message.splitlines() if line.strip()]
        if lines:
            return lines[-1].strip()[:500]
    return None


def _placement(
    config: EngineConfig | ScorerConfig, tensor_parallel: int, node: str | None
) -> dict[str, Any]:
    """Resources of a replica, its node, and the environment its libraries read at import."""
    environment = vllm_environment(config, threads=max(1, math.floor(config.cpus)))
    options: dict[str, Any] = {"runtime_env": {"env_vars": environment}, "num_cpus": config.cpus}
    if config.gpus and tensor_parallel == 1:
        options["num_gpus"] = config.gpus
    there = {NODE_ID: node} if node else {}
    if there and tensor_parallel == 1:
        options["label_selector"] = there
    placed: dict[str, Any] = {"ray_actor_options": options}
    if tensor_parallel > 1:
        # vLLM's own workers take the GPUs of this placement group.
        bundles = [{"CPU": config.cpus, "GPU": 1.0}] + [{"GPU": 1.0}] * (tensor_parallel - 1)
        placed |= {"placement_group_bundles": bundles, "placement_group_strategy": "STRICT_PACK"}
        if there:
            placed["placement_group_bundle_label_selector"] = [there]
    return placed
