"""An engine's process that answers no more is given up, one that is slow is not."""

from __future__ import annotations

import asyncio

import pytest

from elastic_ray.serving.engines.heartbeat import Heartbeat
from elastic_ray.serving.errors import EngineError


def test_silence_is_an_error_after_a_while_and_slowness_none() -> None:
    async def story() -> None:
        now, answer = 0.0, asyncio.Event()
        asked = 0

        async def ask() -> None:
            nonlocal asked
            asked += 1
            await answer.wait()

        heartbeat = Heartbeat(ask, max_silence=10.0, clock=lambda: now)
        heartbeat.beat()
        await asyncio.sleep(0)
        now = 9.0
        heartbeat.beat()
        answer.set()
        await asyncio.sleep(0.01)
        now = 100.0
        heartbeat.beat()  # it has answered: asked anew
        await asyncio.sleep(0.01)
        assert asked == 2
        answer.clear()
        heartbeat.beat()
        await asyncio.sleep(0)
        now = 111.0
        with pytest.raises(EngineError, match="no response for 10 s"):
            heartbeat.beat()
        assert asked == 3

    asyncio.run(story())


def test_what_the_asking_raised_is_raised() -> None:
    async def story() -> None:
        async def ask() -> None:
            raise EngineError("dead")

        heartbeat = Heartbeat(ask)
        heartbeat.beat()
        await asyncio.sleep(0.01)
        with pytest.raises(EngineError, match="dead"):
            heartbeat.beat()
        await asyncio.sleep(0.01)
        with pytest.raises(EngineError, match="dead"):
            heartbeat.beat()

    asyncio.run(story())
