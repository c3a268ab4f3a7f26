"""The Ray Serve deployments: an engine whose requests hold a weight lease, and a scorer.

A request goes to a replica that already holds its state; if there is none, to the least busy
replica. A replica swaps weights only while no request uses the current ones (`weight_lease`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ray import serve
from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica

from ..cluster.declared_gpus import usable_gpus
from ..results.storage.folder import local_folder_at
from .engines.engine import make_engine
from .engines.local_weights import checked_stamp, on_disk
from .engines.scorer import make_scorer_backend
from .errors import EngineError
from .gpu_sharing import starting_alone
from .replica_process import end_processes_together, exit_if_dead, prepare_process
from .types import (
    Answer,
    CodedText,
    CodeLengthResult,
    DistanceResult,
    EngineConfig,
    Reply,
    Sampling,
    Score,
    ScoredText,
    ScorerConfig,
    Weights,
)
from .weight_lease import WeightLease

T = TypeVar("T")

ONGOING_REQUESTS = 4
"""Maximum number of requests that a replica processes concurrently."""
QUEUED_REQUESTS = 64
"""Maximum queue length of a deployment; more requests get Serve's `BackPressureError`."""


class HeldStateRouter(FIFOMixin, RequestRouter):
    """Prefers replicas that hold the state of the request."""

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Return groups of candidates, the preferred group first."""
        weights = pending_request.kwargs.get("weights") if pending_request else None
        state = getattr(weights, "full_state_id", None)
        holding = [r for r in candidate_replicas if r.routing_stats.get("held_state") == state]
        others = [r for r in candidate_replicas if r not in holding]
        return [group for group in (holding, others) if group]


@contextlib.asynccontextmanager
async def _on_this_node(weights: Weights, trust_remote_code: bool) -> AsyncIterator[Weights]:
    """Yield the weights with local folders.

    Folders in an object store are downloaded into the node cache, once per node, and are kept there
    during the block; models on the hub into its own cache.
    """
    with contextlib.ExitStack() as downloads:

        async def local(location: str) -> str:
            return await asyncio.to_thread(downloads.enter_context, local_folder_at(location))

        checkpoint = await local(weights.checkpoint)
        adapter = await local(weights.adapter) if weights.adapter else None
        found = replace(weights, checkpoint=checkpoint, adapter=adapter)
        yield await asyncio.to_thread(on_disk, found, trust_remote_code)


@serve.deployment(max_queued_requests=QUEUED_REQUESTS, graceful_shutdown_wait_loop_s=0.1)
class EngineReplica:
    """One engine. Every request holds a lease on the weights that it needs."""

    def __init__(self, config: EngineConfig) -> None:
        end_processes_together()
        prepare_process(config.tensor_parallel)
        gpus = usable_gpus(config.gpus)
        with local_folder_at(config.checkpoint) as folder, starting_alone(gpus):
            self._engine = make_engine(replace(config, checkpoint=folder, gpus=gpus))
        self._trust_remote_code = config.trust_remote_code
        self._lease = WeightLease()

    async def describe(self) -> dict[str, Any]:
        """Return the engine's version, and why it is not the configured one (`notice`)."""
        return {"engine": self._engine.version, "notice": self._engine.notice}

    async def generate(
        self, weights: Weights, prompts: Sequence[tuple[int, str]], sampling: Sampling
    ) -> Reply[Answer]:
        """Return answers of a state; raise `CheckpointError` if its weights cannot be loaded."""
        return await self._with_weights(
            weights, lambda local: self._engine.generate(local, prompts, sampling)
        )

    async def code_lengths(
        self, weights: Weights, texts: Sequence[CodedText], window: int
    ) -> Reply[CodeLengthResult]:
        """Return code lengths of texts by a state; raises as `generate` does."""
        return await self._with_weights(
            weights, lambda local: self._engine.code_lengths(local, texts, window)
        )

    async def distances(
        self, weights: Weights, reference: Weights, answers: Sequence[Answer]
    ) -> Reply[DistanceResult]:
        """Return a state's distances from a reference state, on the reference's answers.

        Raises as `generate` does. Raises `EngineError` if the engine is vLLM, which does not return
        full next-token distributions.
        """
        from .engines.transformers_engine import TransformersEngine

        engine = self._engine
        if not isinstance(engine, TransformersEngine):
            raise EngineError(
                f"{engine.version} cannot compare states; only the transformers engine can"
            )
        async with _on_this_node(reference, self._trust_remote_code) as local_reference:
            return await self._with_weights(
                weights, lambda local: engine.distances(local, local_reference, answers)
            )

    async def _with_weights(
        self, weights: Weights, work: Callable[[Weights], Awaitable[list[T]]]
    ) -> Reply[T]:
        """Run `work` while the engine holds the weights; time it separately from the swap."""
        swap_seconds, swaps = 0.0, 0
        # Downloads and checksums may overlap with requests that use the current weights.
        async with _on_this_node(weights, self._trust_remote_code) as local:
            if self._lease.held_state != local.full_state_id:
                await asyncio.to_thread(checked_stamp, local)

            async def swap() -> None:
                nonlocal swap_seconds, swaps
                began = time.monotonic()
                await self._engine.load_weights(local)
                swap_seconds, swaps = time.monotonic() - began, swaps + 1

            try:
                async with self._lease.hold(local.full_state_id, swap):
                    began = time.monotonic()
                    items = await work(local)
                    return Reply(items, time.monotonic() - began, swap_seconds, swaps)
            except Exception:
                await exit_if_dead(self._engine)
                raise

    async def check_health(self) -> None:
        """Raise if the engine is dead: its process can die while the replica survives.

        Serve calls this, and replaces the replica if it raises.
        """
        await self._engine.check_health()

    def record_routing_stats(self) -> dict[str, Any]:
        """Return the statistics that `HeldStateRouter` reads; called by Serve."""
        return {"held_state": self._lease.held_state}

    async def shut_down(self) -> None:
        """End the engine's processes; Serve deletes the replica afterwards."""
        await self._engine.close()


@serve.deployment(max_queued_requests=QUEUED_REQUESTS, graceful_shutdown_wait_loop_s=0.1)
class ScorerReplica:
    """One scorer."""

    def __init__(self, config: ScorerConfig) -> None:
        end_processes_together()
        prepare_process(1)
        gpus = usable_gpus(config.gpus)
        with local_folder_at(config.checkpoint) as folder, starting_alone(gpus):
            self._backend = make_scorer_backend(replace(config, checkpoint=folder, gpus=gpus))

    async def describe(self) -> dict[str, Any]:
        """See `EngineReplica.describe`."""
        return {"engine": self._backend.version, "notice": self._backend.notice}

    async def score(self, texts: Sequence[ScoredText]) -> Reply[Score]:
        """Return the scores of the texts, in the same order."""
        began = time.monotonic()
        try:
            scores = await self._backend.score(texts)
            return Reply(scores, time.monotonic() - began)
        except Exception:
            await exit_if_dead(self._backend)
            raise

    async def check_health(self) -> None:
        """See `EngineReplica.check_health`."""
        await self._backend.check_health()

    async def shut_down(self) -> None:
        """See `EngineReplica.shut_down`."""
        await self._backend.close()


async def shut_down_all(handle: Any, replicas: int) -> None:
    """Ask the replicas of a deployment to end their processes; wait up to 10 s for them."""
    calls = [handle.shut_down.remote() for _ in range(replicas)]
    await asyncio.wait([asyncio.ensure_future(_ignore_errors(call)) for call in calls], timeout=10)


async def _ignore_errors(call: Any) -> None:
    with contextlib.suppress(Exception):  # the replica may be gone; Serve deletes it in any case
        await call
