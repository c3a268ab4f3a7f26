"""The driver's side of serving: opens and closes deployments, asks engines, has answers scored.

No HTTP: requests go through Serve's handles. A replica that died is replaced by Serve, and the
request tried again; what fails `TRIES` times is the caller's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..cluster.ray_cluster import gone
from .applications import POLL, _Application, _call, _NodeGone, _placement, _run
from .deployments import EngineReplica, HeldStateRouter, ScorerReplica, shut_down_all
from .errors import EngineError
from .stragglers import SLOW_FACTOR, StragglerDetector
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
    merge_replies,
)

TRIES = 3
CHUNK = 512
"""Prompts per request: bounds what a lost replica costs, and what a reply holds."""
ONGOING = 4
START_SECONDS = 120.0
"""What a deployment usually takes to start; large models and slow disks take longer."""


class Fleet:
    """Deployments by name, under application names that begin with `prefix`.

    A deployment has an application for each node that it is on: Serve spreads replicas as it likes,
    and one that took the room of a trainer would keep it waiting. A request goes where its state
    is held, if there is room, else where the fewest wait.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._deployments: dict[str, Callable[[int, str | None], Any]] = {}
        """Name -> what makes an application of so many replicas on a node."""
        self._on: dict[str, dict[str | None, _Application]] = {}
        self._places: dict[str, Mapping[str, int]] = {}
        self._opening: set[str] = set()
        self.stragglers = StragglerDetector()
        self._started = False
        self._starting = asyncio.Lock()

    async def open_engine(self, config: EngineConfig) -> dict[str, Any]:
        """Start the engine's replicas; returns `engine`, `notice` and `seconds`.

        They are where `place` says; else as many as the configuration says, wherever Ray finds
        room.
        """
        from ray.serve.config import RequestRouterConfig

        router = RequestRouterConfig(
            request_router_class=HeldStateRouter, request_routing_stats_period_s=1.0
        )

        def application(replicas: int, node: str | None) -> Any:
            return EngineReplica.options(
                num_replicas=replicas,
                max_ongoing_requests=ONGOING,
                request_router_config=router,
                **_placement(config, config.tensor_parallel, node),
            ).bind(config)

        return await self._open(config, application)

    async def open_scorer(self, config: ScorerConfig) -> dict[str, Any]:
        """Start the scorer's replicas; as `open_engine`."""

        def application(replicas: int, node: str | None) -> Any:
            return ScorerReplica.options(
                num_replicas=replicas, max_ongoing_requests=ONGOING, **_placement(config, 1, node)
            ).bind(config)

        return await self._open(config, application)

    async def _open(
        self,
        config: EngineConfig | ScorerConfig,
        application: Callable[[int, str | None], Any],
    ) -> dict[str, Any]:
        from ray import serve

        began = time.monotonic()
        async with self._starting:
            if not self._started:
                await asyncio.to_thread(serve.start, proxy_location="Disabled")
                self._started = True
        name = config.name
        self._deployments[name], self._on[name] = application, {}
        self._opening.add(name)
        try:
            about, failed = await self._start_everywhere(name, config.replicas)
        finally:
            self._opening.discard(name)
        if not self._on[name]:
            del self._deployments[name], self._on[name]
            raise failed[0]
        if failed:
            about["notice"] = f"not everywhere: {failed[0]}"
        return {**about, "seconds": time.monotonic() - began}

    async def _start_everywhere(
        self, name: str, replicas: int
    ) -> tuple[dict[str, Any], list[BaseException]]:
        """Start a deployment where its places are, which may change meanwhile: what one of them
        says of itself, and what failed on the last ones."""
        about: dict[str, Any] = {}
        while True:
            places, on = self._places.get(name), self._on[name]
            wanted: dict[str | None, int] = {**places} if places else {None: replicas}
            opened = await asyncio.gather(
                *(
                    self._start(name, node, count)
                    for node, count in wanted.items()
                    if node not in on or on[node].replicas < count
                ),
                return_exceptions=True,
            )
            for each in opened:
                about |= each if isinstance(each, dict) else {}
            failed = [each for each in opened if isinstance(each, BaseException)]
            if not on and any(isinstance(each, _NodeGone) for each in failed):
                while self._places.get(name) is places:  # whoever places it will see it too
                    await asyncio.sleep(POLL)
            if self._places.get(name) is places:
                return about, failed

    async def _start(self, name: str, node: str | None, replicas: int) -> dict[str, Any]:
        """Start, or resize, a deployment's application on a node."""
        from ray import serve

        on = self._application_name(name, node)
        target = serve.RunTarget(self._deployments[name](replicas, node), on, route_prefix=None)
        starting = asyncio.ensure_future(_run(target))
        try:
            with self.stragglers.timing("the start of", on, START_SECONDS):
                handle, about = await asyncio.shield(starting)
        except asyncio.CancelledError:  # Serve starts it all the same, and would keep it
            await asyncio.wait([starting], timeout=SLOW_FACTOR * START_SECONDS)
            if not starting.done():  # it stands still
                starting.cancel()
                await asyncio.to_thread(serve.delete, on, _blocking=False)
            elif starting.exception() is None:
                await self._end(_Application(on, starting.result()[0], replicas))
            raise
        except RuntimeError as e:
            await asyncio.to_thread(serve.delete, on)
            left = node is not None and await asyncio.to_thread(gone, [node])
            raise (_NodeGone if left else EngineError)(f"{name} cannot start: {e}") from None
        here, opened = self._on.get(name), _Application(on, handle, replicas)
        if here is None or (node and node not in self._places[name]):  # not wanted any more
            await self._end(opened)
        else:
            application = here.setdefault(node, opened)  # the one that is resized knows its calls
            application.handle, application.replicas = handle, replicas
        return about

    def _application_name(self, name: str, node: str | None) -> str:
        return f"{self._prefix}-{name}" + (f"-{node[:8]}" if node else "")

    async def place(self, name: str, places: Mapping[str, int]) -> list[str]:
        """Have so many replicas of a deployment on those nodes, by their ids, from its opening on.

        If it is open: start more where there are to be more, and count on none on nodes that are
        not named, which are gone. Replicas elsewhere go on meanwhile. Returns what could not be
        started, in words.
        """
        from ray import serve

        before, self._places[name] = self._places.get(name, {}), places
        here = self._on.get(name)
        if here is None:
            return []
        for node in before.keys() - places.keys():
            lost = here.pop(node, None)
            if lost is not None:
                lost.gone = True
                for call in lost.calls:  # Serve would have them wait for a replica for ever
                    call.cancel()
            application = self._application_name(name, node)
            await asyncio.to_thread(serve.delete, application, _blocking=False)
        if name in self._opening:
            return []  # whoever opens it sees where it is to be now
        new = [
            self._start(name, node, count)
            for node, count in places.items()
            if node not in here or here[node].replicas < count
        ]
        done = await asyncio.gather(*new, return_exceptions=True)
        problems = [each for each in done if isinstance(each, BaseException)]
        for problem in problems:
            if not isinstance(problem, EngineError):
                raise problem
        return [str(problem) for problem in problems]

    @property
    def replicas(self) -> dict[str, int]:
        """The replicas of every deployment that is open or opens, by its name."""
        return {
            name: max(
                sum(self._places.get(name, {}).values()),
                sum(application.replicas for application in here.values()),
            )
            for name, here in self._on.items()
        }

    async def generate(
        self,
        name: str,
        weights: Weights,
        prompts: Sequence[tuple[int, str]],
        sampling: Sampling,
        chunk: int = CHUNK,
    ) -> Reply[Answer]:
        """Answers of one state, in the order of prompts and samples."""
        return await self._in_parts(
            name, "generate", "prompts", prompts, chunk, weights=weights, sampling=sampling
        )

    async def code_lengths(
        self,
        name: str,
        weights: Weights,
        texts: Sequence[CodedText],
        window: int,
        chunk: int = CHUNK,
    ) -> Reply[CodeLengthResult]:
        """One state's code lengths, in the order of texts; see `coding`."""
        return await self._in_parts(
            name, "code_lengths", "texts", texts, chunk, weights=weights, window=window
        )

    async def distances(
        self,
        name: str,
        weights: Weights,
        reference: Weights,
        answers: Sequence[Answer],
        chunk: int = CHUNK,
    ) -> Reply[DistanceResult]:
        """One state's distances from another, on that one's answers; see `distances`."""
        return await self._in_parts(
            name, "distances", "answers", answers, chunk, weights=weights, reference=reference
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
        return merge_replies(await asyncio.gather(*calls))

    async def _try(self, name: str, method: str, **arguments: Any) -> Any:
        from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError
        from ray.serve.exceptions import BackPressureError

        tried = 0
        held = getattr(arguments.get("weights"), "full_state_id", None)
        while True:
            application = self._choose(name, held)
            if application is None:  # its nodes are gone: until there is room on others
                await asyncio.sleep(1.0)
                continue
            application.held = held
            call = asyncio.ensure_future(_call(application.handle, method, arguments))
            application.calls.add(call)
            try:
                with self.stragglers.timing(f"{method} by {name}", str(held or "")):
                    return await call
            except asyncio.CancelledError:
                asked = asyncio.current_task()
                if not application.gone or (asked and asked.cancelling()):
                    raise
            except BackPressureError:
                await asyncio.sleep(0.5)  # a full queue is no failure
            except (ActorDiedError, ActorUnavailableError, RayActorError):
                tried += 1
                if tried >= TRIES:
                    raise
            finally:
                call.cancel()
                application.calls.discard(call)

    def _choose(self, name: str, held: str | None) -> _Application | None:
        """Where a request goes."""
        on = self._on[name].values()
        holding = [
            each for each in on if each.held == held and len(each.calls) < each.replicas * ONGOING
        ]
        return min(holding or on, key=lambda each: len(each.calls) / each.replicas, default=None)

    async def close(self, name: str) -> None:
        """End a deployment: its replicas, their processes, their resources."""
        self._deployments.pop(name, None)
        on = self._on.pop(name, {}).values()
        await asyncio.gather(*(self._end(application) for application in on))

    async def _end(self, application: _Application) -> None:
        from ray import serve

        await shut_down_all(application.handle, application.replicas)
        try:
            await asyncio.to_thread(serve.delete, application.name)
        except TimeoutError as e:  # Serve goes on deleting; the sweep need not wait for it
            logging.getLogger(__name__).warning("%s", e)

    async def shut_down(self) -> None:
        """End every deployment of this fleet; Serve itself may be another sweep's too."""
        await asyncio.gather(*(self.close(name) for name in list(self._on)))
