"""The Ray Serve replicas: an engine under a lease, a scorer; and how requests find them.

Requests go to a replica that holds their state, if one does, else to the least busy. A replica
takes other weights only when nobody uses those it holds (`lease`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ray import serve
from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica

from ..results.storage.folder import fetched
from .engines.engine import Engine, make_engine
from .engines.scorer import ScorerBackend, make_scorer_backend
from .engines.transformers_engine import TransformersEngine
from .errors import EngineError
from .types import (
    Answer,
    CodedText,
    CodeLengthResult,
    DistanceResult,
    EngineConfig,
    Reply,
    Sampling,
    Score,
    ScorerConfig,
    Weights,
)
from .weight_lease import WeightLease

T = TypeVar("T")

QUEUED = 64
"""Requests that may wait at a deployment before callers are told to wait themselves."""


class HeldStateRouter(FIFOMixin, RequestRouter):
    """Prefers replicas that hold the request's state."""

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        weights = pending_request.kwargs.get("weights") if pending_request else None
        wanted = getattr(weights, "full_state_id", None)
        holding = [r for r in candidate_replicas if r.routing_stats.get("held") == wanted]
        others = [r for r in candidate_replicas if r not in holding]
        return [group for group in (holding, others) if group]


def _end_together() -> None:
    """Whatever ends this replica ends the engine's own processes too, and at once.

    vLLM's engine process does not notice that its parent was killed, or only minutes later. So the
    replica and all that it starts are a process group, and a shell outside of it waits for the
    replica's end (its pipe closes) to kill what is left of the group. On Linux the replica itself
    is killed the moment its raylet is gone.
    """
    with contextlib.suppress(OSError):
        ctypes.CDLL("libc.so.6", use_errno=True).prctl(1, signal.SIGKILL)
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    kill_the_rest = ["sh", "-c", 'read _; kill -s KILL -- "-$1"', "sh", str(os.getpgrp())]
    guard = subprocess.Popen(
        kill_the_rest, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    _guards.append(guard)


_guards: list[subprocess.Popen[bytes]] = []
"""Kept for their pipes, which must stay open as long as this process lives."""


async def _end_if_dead(part: Engine | ScorerBackend) -> None:
    """End this replica if its engine can answer no more: Serve starts another, and callers, who
    see an actor that died, try again there. Without it they would fail until the next check."""
    try:
        await part.check()
    except Exception:
        os._exit(1)


@contextlib.asynccontextmanager
async def _local(weights: Weights) -> AsyncIterator[Weights]:
    """The same with folders of this node: what lies on a store is fetched, once a node, and stays
    until the context is left."""
    with contextlib.ExitStack() as held:

        async def local(place: str) -> str:
            return await asyncio.to_thread(held.enter_context, fetched(place))

        checkpoint = await local(weights.checkpoint)
        adapter = await local(weights.adapter) if weights.adapter else None
        yield replace(weights, checkpoint=checkpoint, adapter=adapter)


@serve.deployment(max_queued_requests=QUEUED, graceful_shutdown_wait_loop_s=0.1)
class EngineReplica:
    """One engine: every request holds a lease on the state it is about."""

    def __init__(self, config: EngineConfig) -> None:
        _end_together()
        with fetched(config.checkpoint) as folder:
            self._engine = make_engine(replace(config, checkpoint=folder))
        self._lease = WeightLease()

    async def describe(self) -> dict[str, Any]:
        return {"engine": self._engine.version, "notice": self._engine.notice}

    async def generate(
        self, weights: Weights, prompts: Sequence[tuple[int, str]], sampling: Sampling
    ) -> Reply[Answer]:
        """Answers of that state; `CheckpointError` where its weights cannot be taken."""
        return await self._holding(weights, lambda at: self._engine.generate(at, prompts, sampling))

    async def code_lengths(
        self, weights: Weights, texts: Sequence[CodedText], window: int
    ) -> Reply[CodeLengthResult]:
        """Code lengths by that state; errors as for answers."""
        return await self._holding(weights, lambda at: self._engine.code_lengths(at, texts, window))

    async def distances(
        self, weights: Weights, reference: Weights, answers: Sequence[Answer]
    ) -> Reply[DistanceResult]:
        """That state's distances from a reference, on the reference's answers; errors as for
        answers, and `EngineError` of an engine that shows no distributions."""
        engine = self._engine
        if not isinstance(engine, TransformersEngine):
            raise EngineError(f"{engine.version} compares no states; transformers does")
        async with _local(reference) as known:
            return await self._holding(weights, lambda at: engine.distances(at, known, answers))

    async def _holding(
        self, weights: Weights, work: Callable[[Weights], Awaitable[list[T]]]
    ) -> Reply[T]:
        swapping, swaps = 0.0, 0
        async with _local(weights) as here:  # fetched while others ask of what is held

            async def swap() -> None:
                nonlocal swapping, swaps
                began = time.monotonic()
                await self._engine.load_weights(here)
                swapping, swaps = time.monotonic() - began, swaps + 1

            try:
                async with self._lease.hold(here.full_state_id, swap):
                    began = time.monotonic()
                    items = await work(here)
                    return Reply(items, time.monotonic() - began, swapping, swaps)
            except Exception:
                await _end_if_dead(self._engine)
                raise

    async def check_health(self) -> None:
        """Serve replaces the replica where this raises: an engine's process may die alone."""
        await self._engine.check()

    def record_routing_stats(self) -> dict[str, Any]:
        return {"held": self._lease.held_state}

    async def shut_down(self) -> None:
        """End the engine's own processes; the replica itself is deleted after."""
        await self._engine.close()


@serve.deployment(max_queued_requests=QUEUED, graceful_shutdown_wait_loop_s=0.1)
class ScorerReplica:
    """One classifier."""

    def __init__(self, config: ScorerConfig) -> None:
        _end_together()
        with fetched(config.checkpoint) as folder:
            self._backend = make_scorer_backend(replace(config, checkpoint=folder))

    async def describe(self) -> dict[str, Any]:
        return {"engine": self._backend.version, "notice": self._backend.notice}

    async def score(self, texts: Sequence[str]) -> Reply[Score]:
        began = time.monotonic()
        try:
            scores = await self._backend.score(texts)
            return Reply(scores, time.monotonic() - began)
        except Exception:
            await _end_if_dead(self._backend)
            raise

    async def check_health(self) -> None:
        await self._backend.check()

    async def shut_down(self) -> None:
        await self._backend.close()


async def shut_down_all(handle: Any, replicas: int) -> None:
    """Ask the replicas of a deployment to end their processes, as far as they can be reached."""
    calls = [handle.shut_down.remote() for _ in range(replicas)]
    await asyncio.wait([asyncio.ensure_future(_quietly(call)) for call in calls], timeout=10)


async def _quietly(call: Any) -> None:
    try:
        await call
    except Exception:  # it is being deleted anyway
        return
