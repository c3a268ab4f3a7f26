"""A silent engine process counts as dead, a slow one does not."""

from __future__ import annotations

import asyncio

import pytest

from elastic_ray.serving.engines.heartbeat import Heartbeat
from elastic_ray.serving.errors import EngineError


def test_long_silence_is_an_error_and_slowness_is_not() -> None:
    async def story() -> None:
        now, response = 0.0, asyncio.Event()
        pings = 0

        async def ping() -> None:
            nonlocal pings
            pings += 1
            await response.wait()

        heartbeat = Heartbeat(ping, max_silence=10.0, clock=lambda: now)
        heartbeat.beat()
        await asyncio.sleep(0)
        now = 9.0
        heartbeat.beat()
        response.set()
        await asyncio.sleep(0.01)
        now = 100.0
        heartbeat.beat()  # responded: a new ping
        await asyncio.sleep(0.01)
        assert pings == 2
        response.clear()
        heartbeat.beat()
        await asyncio.sleep(0)
        now = 111.0
        with pytest.raises(EngineError, match="no response for 10 s"):
            heartbeat.beat()
        assert pings == 3

    asyncio.run(story())


def test_the_error_of_a_ping_is_raised_by_the_next_beat() -> None:
    async def story() -> None:
        async def ping() -> None:
            raise EngineError("dead")

        heartbeat = Heartbeat(ping)
        heartbeat.beat()
        await asyncio.sleep(0.01)
        with pytest.raises(EngineError, match="dead"):
            heartbeat.beat()
        await asyncio.sleep(0.01)
        with pytest.raises(EngineError, match="dead"):
            heartbeat.beat()

    asyncio.run(story())
