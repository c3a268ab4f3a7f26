"""The driver's side of serving: opens and closes deployments, asks engines, has answers scored.

No HTTP: requests go through Serve's handles. A replica that died is replaced by Serve, and the
request tried again; what fails `TRIES` times is the caller's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import Any

from .deployments import EngineReplica, HeldStateRouter, ScorerReplica, shut_down_all
from .engine import vllm_environment
from .values import (
    Answer,
    Compared,
    EngineConfig,
    EngineError,
    Measured,
    Reply,
    Sampling,
    Score,
    ScorerConfig,
    Text,
    Weights,
    joined,
)

TRIES = 3
CHUNK = 512
"""Prompts per request: bounds what a lost replica costs, and what a reply holds."""
ONGOING = 4


class Fleet:
    """Deployments by name, under application names that begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._handles: dict[str, Any] = {}
        self._replicas: dict[str, int] = {}
        self._started = False
        self._starting = asyncio.Lock()

    async def open_engine(self, config: EngineConfig) -> dict[str, Any]:
        """Start the engine's replicas; returns `engine`, `notice` and `seconds`."""
        from ray.serve.config import RequestRouterConfig

        deployment = EngineReplica.options(
            num_replicas=config.replicas,
            max_ongoing_requests=ONGOING,
            request_router_config=RequestRouterConfig(
                request_router_class=HeldStateRouter, request_routing_stats_period_s=1.0
            ),
            **_placement(config, config.tensor_parallel),
        )
        return await self._open(config.name, deployment.bind(config), config.replicas)

    async def open_scorer(self, config: ScorerConfig) -> dict[str, Any]:
        """Start the scorer's replicas; returns as `open_engine`."""
        deployment = ScorerReplica.options(
            num_replicas=config.replicas, max_ongoing_requests=ONGOING, **_placement(config, 1)
        )
        return await self._open(config.name, deployment.bind(config), config.replicas)

    async def _open(self, name: str, application: Any, replicas: int) -> dict[str, Any]:
        from ray import serve

        began = time.monotonic()
        async with self._starting:
            if not self._started:
                await asyncio.to_thread(serve.start, proxy_location="Disabled")
                self._started = True
        application_name = f"{self._prefix}-{name}"
        try:
            handle = await asyncio.to_thread(
                serve.run, application, name=application_name, route_prefix=None
            )
        except RuntimeError as e:
            why = await asyncio.to_thread(_why_not, application_name)
            await asyncio.to_thread(serve.delete, application_name)
            raise EngineError(f"{name} cannot start: {why or e}") from None
        self._handles[name], self._replicas[name] = handle, replicas
        about = await handle.describe.remote()
        return {**about, "seconds": time.monotonic() - began}

    async def ask(
        self,
        name: str,
        weights: Weights,
        prompts: Sequence[tuple[int, str]],
        sampling: Sampling,
        chunk: int = CHUNK,
    ) -> Reply[Answer]:
        """Answers of one state, in the order of prompts and samples."""
        return await self._in_parts(
            name, "answer", "prompts", prompts, chunk, weights=weights, sampling=sampling
        )

    async def measure(
        self, name: str, weights: Weights, texts: Sequence[Text], window: int, chunk: int = CHUNK
    ) -> Reply[Measured]:
        """One state's code lengths, in the order of texts; see `coding`."""
        return await self._in_parts(
            name, "measure", "texts", texts, chunk, weights=weights, window=window
        )

    async def compare(
        self,
        name: str,
        weights: Weights,
        reference: Weights,
        answers: Sequence[Answer],
        chunk: int = CHUNK,
    ) -> Reply[Compared]:
        """One state's distances from another, on that one's answers; see `distances`."""
        return await self._in_parts(
            name, "compare", "answers", answers, chunk, weights=weights, reference=reference
        )

    async def score(self, name: str, texts: Sequence[str], chunk: int = CHUNK) -> Reply[Score]:
        """Scores, in the order of texts."""
        return await self._in_parts(name, "score", "texts", texts, chunk)

    async def _in_parts(
        self,
        name: str,
        method: str,
        parameter: str,
        items: Sequence[Any],
        chunk: int,
        **arguments: Any,
    ) -> Reply[Any]:
        """Call `method` with `chunk` items at a time as `parameter`; the replies as one."""
        parts = [items[i : i + chunk] for i in range(0, len(items), chunk)]
        calls = (self._try(name, method, **{parameter: part}, **arguments) for part in parts)
        return joined(await asyncio.gather(*calls))

    async def _try(self, name: str, method: str, **arguments: Any) -> Any:
        from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError
        from ray.serve.exceptions import BackPressureError

        tried = 0
        while True:
            try:
                return await getattr(self._handles[name], method).remote(**arguments)
            except BackPressureError:
                await asyncio.sleep(0.5)  # a full queue is no failure
            except (ActorDiedError, ActorUnavailableError, RayActorError):
                tried += 1
                if tried >= TRIES:
                    raise

    async def close(self, name: str) -> None:
        """End a deployment: its replicas, their processes, their resources."""
        from ray import serve

        handle = self._handles.pop(name, None)
        if handle is None:
            return
        await shut_down_all(handle, self._replicas[name])
        try:
            await asyncio.to_thread(serve.delete, f"{self._prefix}-{name}")
        except TimeoutError as e:  # Serve goes on deleting; the sweep need not wait for it
            logging.getLogger(__name__).warning("%s", e)

    async def shutdown(self) -> None:
        """End every deployment of this fleet; Serve itself may be another sweep's too."""
        await asyncio.gather(*(self.close(name) for name in list(self._handles)))


def _why_not(application: str) -> str | None:
    """The last line of what kept an application from starting, if Serve has kept it."""
    from ray import serve

    found = serve.status().applications.get(application)
    for deployment in found.deployments.values() if found else ():
        lines = [line for line in deployment.message.splitlines() if line.strip()]
        if lines:
            return lines[-1].strip()[:500]
    return None


def _placement(config: EngineConfig | ScorerConfig, tensor_parallel: int) -> dict[str, Any]:
    """Resources of a replica, and the environment its libraries read at import."""
    environment = vllm_environment(config, threads=max(1, math.floor(config.cpus)))
    options: dict[str, Any] = {"runtime_env": {"env_vars": environment}, "num_cpus": config.cpus}
    if config.gpus and tensor_parallel == 1:
        options["num_gpus"] = config.gpus
    placed: dict[str, Any] = {"ray_actor_options": options}
    if tensor_parallel > 1:
        # vLLM's own workers take the GPUs of this placement group.
        bundles = [{"CPU": config.cpus, "GPU": 1.0}] + [{"GPU": 1.0}] * (tensor_parallel - 1)
        placed |= {"placement_group_bundles": bundles, "placement_group_strategy": "STRICT_PACK"}
    return placed
