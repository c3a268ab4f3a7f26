"""Starts of deployments on a real Serve, without a model."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="the training extra is not installed")
import ray
from ray import serve

from elastic_ray.serving.errors import EngineError
from elastic_ray.serving.launcher import ReplicaLauncher
from elastic_ray.serving.start_queue import StartQueue
from elastic_ray.serving.stragglers import StragglerDetector

pytestmark = pytest.mark.integration

CONFIG: Any = SimpleNamespace(name="stuck", replicas=1)


@pytest.fixture(scope="module")
def started() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    serve.shutdown()
    ray.shutdown()


@pytest.fixture
def cluster(started: None) -> Iterator[None]:
    yield
    for name in serve.status().applications:
        serve.delete(name)


@serve.deployment(graceful_shutdown_timeout_s=1)
class NeverStarts:
    def __init__(self) -> None:
        time.sleep(3600)


@serve.deployment
class FailsToStart:
    def __init__(self) -> None:
        raise ValueError("no such weights")


@serve.deployment(graceful_shutdown_timeout_s=1)
class NeverDescribes:
    async def describe(self) -> dict[str, Any]:
        await asyncio.sleep(3600)
        return {}


@serve.deployment(graceful_shutdown_timeout_s=1)
class DiesOnce:
    def __init__(self, died: str) -> None:
        self._died = Path(died)

    def describe(self) -> dict[str, Any]:
        if not self._died.exists():
            self._died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"engine": "ready"}


@serve.deployment
class Ready:
    def describe(self) -> dict[str, Any]:
        return {"engine": "ready"}


async def wait_for_applications(gone: bool) -> None:
    deadline = time.monotonic() + 90
    while any(await asyncio.to_thread(_applications)) == gone:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


def _applications() -> list[str]:
    return [name for name in serve.status().applications if name.startswith("test-stuck")]


def test_a_stuck_start_is_reported_and_can_be_cancelled(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elastic_ray.serving.applications.START_SECONDS", 0.5)
    monkeypatch.setattr("elastic_ray.serving.stragglers.MIN_SECONDS", 1.0)
    stragglers = StragglerDetector()
    launcher = ReplicaLauncher("test", stragglers, StartQueue())

    async def stop() -> None:
        opening = asyncio.ensure_future(launcher.open(CONFIG, lambda *_: NeverStarts.bind()))
        await wait_for_applications(gone=False)
        await asyncio.sleep(3)
        (line,) = stragglers.new_reports()
        assert "the start of test-stuck is still running after" in line
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await opening
        assert opening.cancelled()
        await wait_for_applications(gone=True)

    asyncio.run(stop())


@pytest.mark.parametrize(
    ("replica", "given_up"),
    [(NeverStarts, False), (NeverDescribes, False), (FailsToStart, True)],
    ids=["while it starts", "once it has started", "when it fails"],
)
def test_a_start_on_a_node_that_leaves_moves_to_another_node(
    cluster: None, replica: Any, given_up: bool
) -> None:
    """Serve gives up a failing start within a second; `place` may be called five seconds later."""
    launcher = ReplicaLauncher("test", StragglerDetector(), StartQueue())
    nodes = {"gone": replica, "there": Ready}

    async def move() -> dict[str, Any]:
        await launcher.place("stuck", {"gone": 1})
        opening = asyncio.ensure_future(launcher.open(CONFIG, lambda _, node: nodes[node].bind()))
        await wait_for_applications(gone=False)
        await wait_for_applications(gone=given_up)
        await asyncio.sleep(5)
        assert not opening.done()
        await launcher.place("stuck", {"there": 1})
        return await asyncio.wait_for(opening, 90)

    about = asyncio.run(move())
    assert about["engine"] == "ready" and "notice" not in about
    assert launcher.replicas == {"stuck": 1}


def test_a_replica_that_dies_after_its_start_is_replaced(cluster: None, tmp_path: Path) -> None:
    launcher = ReplicaLauncher("test", StragglerDetector(), StartQueue())
    died = tmp_path / "died"
    about = asyncio.run(launcher.open(CONFIG, lambda *_: DiesOnce.bind(str(died))))
    assert about["engine"] == "ready" and died.exists()


def test_a_failed_start_on_a_node_that_stays_is_an_error(cluster: None) -> None:
    launcher = ReplicaLauncher("test", StragglerDetector(), StartQueue())
    [node] = ray.nodes()

    async def fail() -> None:
        await launcher.place("stuck", {node["NodeID"]: 1})
        await launcher.open(CONFIG, lambda *_: FailsToStart.bind())

    with pytest.raises(EngineError, match=r"stuck cannot start: .*no such weights"):
        asyncio.run(fail())
