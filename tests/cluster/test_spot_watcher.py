"""The spot watcher: EC2's notice drains this machine's Ray node, once."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from metadata_service import MetadataService

from elastic_ray.cluster import spot_watcher
from elastic_ray.cluster.instance_metadata import InstanceMetadata
from elastic_ray.cluster.spot_watcher import Notice, read_notice, watch

ROOT = Path(__file__).parents[2]
POLL = 0.05


@pytest.fixture
def service() -> Iterator[MetadataService]:
    with MetadataService(instance_life_cycle="spot") as service:
        yield service


def metadata(service: MetadataService) -> InstanceMetadata:
    return InstanceMetadata(service.url, timeout=0.3)


def until(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait until it is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


class Watching:
    """A watcher on a thread; `drained` has the notices with which it drained the node."""

    def __init__(self, service: MetadataService, failures: int = 0) -> None:
        self.drained: list[Notice] = []
        self.failures = failures
        self.status: int | None = None
        self._thread = threading.Thread(target=self._run, args=(service,), daemon=True)
        self._thread.start()

    def _run(self, service: MetadataService) -> None:
        self.status = watch(metadata(service), self._drain, POLL)

    def _drain(self, notice: Notice) -> None:
        if self.failures:
            self.failures -= 1
            raise subprocess.CalledProcessError(1, ["ray"], stderr="the head does not answer")
        self.drained.append(notice)

    def ended(self) -> int | None:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.status


def test_the_notice_drains_the_node_once(service: MetadataService) -> None:
    watching = Watching(service)
    until(lambda: service.asked.count(("GET", "/latest/meta-data/spot/instance-action", 404)) > 3)
    assert watching.drained == []
    service.announce(120)
    assert watching.ended() == 0
    [notice] = watching.drained
    assert notice.action == "terminate"
    assert 110 < (notice.at - datetime.now(UTC)).total_seconds() < 121
    # Another request would have needed another token.
    assert [each for each in service.asked if each[0] == "PUT"] == [
        ("PUT", "/latest/api/token", 200)
    ]


def test_a_failed_drain_is_repeated(
    service: MetadataService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.announce(120)
    watching = Watching(service, failures=3)
    assert watching.ended() == 0
    assert len(watching.drained) == 1
    assert capsys.readouterr().out.count("not drained: the head does not answer") == 3


def test_a_drain_that_fails_until_the_interruption_is_an_error(service: MetadataService) -> None:
    service.announce(1)
    watching = Watching(service, failures=10**6)
    assert watching.ended() == 1
    assert watching.drained == []


def test_an_expired_token_is_renewed(service: MetadataService) -> None:
    watching = Watching(service)
    until(lambda: len(service.asked) > 4)
    service.expire_tokens()
    until(lambda: sum(each[0] == "PUT" for each in service.asked) == 2)
    service.announce(120, "stop")
    assert watching.ended() == 0
    assert [each.action for each in watching.drained] == ["stop"]


def test_timeouts_are_reported_once_and_survived(
    service: MetadataService, capsys: pytest.CaptureFixture[str]
) -> None:
    watching = Watching(service)
    until(lambda: len(service.asked) > 4)
    service.hang.set()
    out = ""

    def reported() -> bool:
        nonlocal out
        out += capsys.readouterr().out
        return "does not answer" in out

    until(reported)
    time.sleep(1)  # some more timeouts
    service.answer_again()
    service.announce(120)
    assert watching.ended() == 0
    assert len(watching.drained) == 1
    out += capsys.readouterr().out
    assert out.count("does not answer") == out.count("answers again") == 1


def test_an_answer_that_is_not_http_is_survived() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(b"what?\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        port = server.getsockname()[1]
        with pytest.raises(OSError, match="BadStatusLine"):
            InstanceMetadata(f"http://127.0.0.1:{port}", timeout=5).read("instance-life-cycle")


@pytest.mark.parametrize(
    "text", ["", "soon", "[]", '{"action": "terminate"}', '{"action": "stop", "time": "soon"}']
)
def test_a_notice_without_a_readable_time_counts(
    service: MetadataService, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    service.items["spot/instance-action"] = text
    notice = read_notice(metadata(service))
    assert notice is not None and 118 <= notice.seconds_left() <= 120
    assert "120 s are assumed" in capsys.readouterr().out


def test_an_instance_that_is_not_spot_is_not_watched(
    service: MetadataService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.items["instance-life-cycle"] = "on-demand"
    assert Watching(service).ended() == 0
    assert "this instance is on-demand, not spot" in capsys.readouterr().out


def test_elsewhere_than_on_ec2_it_ends_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    nowhere = InstanceMetadata(f"http://127.0.0.1:{port}", timeout=0.3)
    assert watch(nowhere, lambda notice: None, POLL) == 1
    out = capsys.readouterr().out
    assert f"not an EC2 instance, or its metadata is turned off (http://127.0.0.1:{port}: " in out


def test_a_proxy_is_not_asked(service: MetadataService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert metadata(service).read("instance-life-cycle") == "spot"


def test_it_needs_no_ray_while_it_waits() -> None:
    code = (
        "import sys, elastic_ray.cluster.spot_watcher; "
        "print(sorted(sys.modules.keys() & {'ray', 'numpy', 'torch'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def command(service: MetadataService, lock: Path, *options: str) -> list[str]:
    return [
        sys.executable, "-m", "elastic_ray.cluster.spot_watcher", f"--metadata={service.url}",
        "--poll=0.1", f"--lock={lock}", *options,
    ]  # fmt: skip


def test_one_watcher_runs_on_a_machine(service: MetadataService, tmp_path: Path) -> None:
    start = command(service, tmp_path / "lock", "--node-id=one")
    with subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        try:
            until(lambda: len(service.asked) > 3)
            second = subprocess.run(
                start, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
            )
            assert second.returncode == 0
            assert f"another one runs already ({tmp_path / 'lock'})" in second.stdout
            assert first.poll() is None
        finally:
            first.kill()


@pytest.mark.integration
def test_the_notice_drains_a_real_ray_node(service: MetadataService, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the training extra is not installed")
    from ray.cluster_utils import Cluster

    from elastic_ray.cluster.ray_cluster import departed_nodes, staying_nodes

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        worker, other = (cluster.add_node(num_cpus=1, include_dashboard=False) for _ in range(2))
        ray.init(address=cluster.address, log_to_driver=False)

        @ray.remote(num_cpus=1)
        class Busy:
            def node(self) -> str:
                return str(ray.get_runtime_context().get_node_id())

        # A drained node ends as soon as it is idle, so both are kept busy.
        actors = [Busy.remote(), Busy.remote()]
        nodes = {worker.node_id, other.node_id}
        assert set(ray.get([actor.node.remote() for actor in actors])) == nodes

        # Several nodes run on this machine, so the watcher has to be told which is its own.
        with pytest.raises(spot_watcher.NoRayNodeError, match="name one with --node-id"):
            spot_watcher.node_of_this_machine()
        watcher = subprocess.Popen(
            command(service, tmp_path / "lock", f"--node-id={worker.node_id}"),
            cwd=ROOT,
            env={**os.environ, "RAY_ADDRESS": cluster.address},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: len(service.asked) > 3)
            assert departed_nodes(nodes) == set()
            service.announce(120)
            out, _ = watcher.communicate(timeout=90)
        finally:
            watcher.kill()
        assert watcher.returncode == 0 and out.rstrip().endswith("the node is drained"), out
        assert len(re.findall("is drained", out)) == 1

        assert departed_nodes(nodes) == {worker.node_id}
        assert departed_nodes(nodes, leaving=False) == set(), "it still runs what it ran"
        assert {node.name for node in staying_nodes()} == {other.node_id}
        [(node, deadline)] = ray._private.state.state.get_draining_nodes().items()
        assert node == worker.node_id
        assert 30 < deadline / 1000 - time.time() < 121
    finally:
        ray.shutdown()
        cluster.global_state.disconnect()
        cluster.shutdown()
