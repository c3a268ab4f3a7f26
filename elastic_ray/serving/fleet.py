"""The driver's view of serving: opens and closes engines and scorers, and sends them requests.

`Fleet` only puts a launcher (which replicas run where) and a dispatcher (which replica gets a
request) behind typed methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from .dispatcher import RequestDispatcher
from .launcher import ReplicaLauncher
from .replica_options import bind_engine, bind_scorer
from .start_queue import StartQueue
from .stragglers import StragglerDetector
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

CHUNK = 512
"""Items per call of a replica: limits what a lost replica costs, and the size of a reply."""


class Fleet:
    """The engines and scorers of a sweep. Their Serve application names begin with `prefix`.

    They start when `queue` lets them; by default at once.

    A deployment is addressed by the name in its configuration. Every request raises what the
    replica raised (`EngineError`, `CheckpointError`), or Ray's `RayActorError` after several
    replicas died of it.
    """

    def __init__(self, prefix: str, queue: StartQueue | None = None) -> None:
        self.stragglers = StragglerDetector()
        self._launcher = ReplicaLauncher(prefix, self.stragglers, queue or StartQueue())
        self._dispatcher = RequestDispatcher(self._launcher, self.stragglers)

    async def open_engine(self, config: EngineConfig) -> dict[str, Any]:
        """Start an engine group; returns and raises as `ReplicaLauncher.open` does."""
        return await self._launcher.open(config, partial(bind_engine, config))

    async def open_scorer(self, config: ScorerConfig) -> dict[str, Any]:
        """Start a scorer; returns and raises as `ReplicaLauncher.open` does."""
        return await self._launcher.open(config, partial(bind_scorer, config))

    async def place(self, name: str, places: Mapping[str, int]) -> list[str]:
        """Set the replicas per node of a deployment; see `ReplicaLauncher.place`."""
        return await self._launcher.place(name, places)

    async def withdraw(self, name: str) -> None:
        """End the replicas of a deployment that has no request; see `ReplicaLauncher.withdraw`."""
        await self._launcher.withdraw(name)

    @property
    def replicas(self) -> dict[str, int]:
        """Number of replicas of each deployment that is open or opening, by name."""
        return self._launcher.replicas

    async def generate(
        self,
        name: str,
        weights: Weights,
        prompts: Sequence[tuple[int, str]],
        sampling: Sampling,
        chunk: int = CHUNK,
    ) -> Reply[Answer]:
        """Return a state's answers, in the order of prompts, then samples."""
        return await self._dispatcher.call_in_chunks(
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
        """Return a state's code lengths, in the order of texts, read `window` tokens at a time."""
        return await self._dispatcher.call_in_chunks(
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
        """Return a state's distances from a reference state, on the reference's answers."""
        return await self._dispatcher.call_in_chunks(
            name, "distances", "answers", answers, chunk, weights=weights, reference=reference
        )

    async def score(
        self, name: str, texts: Sequence[ScoredText], chunk: int = CHUNK
    ) -> Reply[Score]:
        """Return a scorer's scores, in the order of texts."""
        return await self._dispatcher.call_in_chunks(name, "score", "texts", texts, chunk)

    async def close(self, name: str) -> None:
        """End a deployment: its replicas, their processes and their resources."""
        await self._launcher.close(name)

    async def shut_down(self) -> None:
        """End all deployments. Serve itself stays: it may be another sweep's too."""
        await self._launcher.shut_down()
