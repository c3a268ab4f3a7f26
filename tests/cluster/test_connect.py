"""Joining a Ray cluster: an address that does not answer is reported within seconds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the training extra is not installed")
from elastic_ray.cluster.ray_cluster import accepts_connections

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
FREE = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


@pytest.fixture
def nowhere() -> str:
    """Return an address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**FREE, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_only_an_open_port_accepts_connections(nowhere: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        assert accepts_connections(place) and accepts_connections(f"ray://{place}")
    assert not accepts_connections(place) and not accepts_connections(nowhere)
    assert not any(
        map(accepts_connections, ("", "here", "127.0.0.1", "127.0.0.1:port", "127.0.0.1:99999999"))
    )


def test_a_named_address_that_does_not_answer_is_an_error(tmp_path: Path, nowhere: str) -> None:
    command = ["-m", "elastic_ray.sweep", "sweeps/tiny.yaml", "--results", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**FREE, "RAY_ADDRESS": nowhere},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1
    said = f"error: ConnectionError: RAY_ADDRESS: found {nowhere}; nothing answers there within 5 s"
    assert said in done.stderr
    assert "Traceback" not in done.stderr and "ended abruptly" not in done.stdout


def test_a_remembered_address_that_does_not_answer_is_reported_and_ray_started(
    nowhere: str,
) -> None:
    # Ray itself remembers it in a file, but looks for running clusters of others' first.
    done = python(
        "import ray\n"
        "from elastic_ray.cluster import ray_cluster as cluster\n"
        f"cluster._remembered_address = lambda: {nowhere!r}\n"
        "print('started:', cluster.connect(print), ray.is_initialized())\n"
        "ray.shutdown()\n"
    )
    assert done.returncode == 0, done.stderr
    said, started = done.stdout.splitlines()
    assert said.startswith(f"Ray remembers a cluster at {nowhere}, but nothing answers there")
    assert started == "started: True True"


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("pass", 0, ""),
        ("raise SystemExit(3)", 3, ""),
        ("os._exit(1)", 1, "gone\n"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "gone\n"),
    ],
)
def test_the_message_is_printed_if_the_process_dies(end: str, code: int, said: str) -> None:
    done = python(
        "import os, signal, sys\n"
        "from elastic_ray.sweep.log_capture import message_on_death\n"
        "with message_on_death(sys.stdout, 'gone'):\n"
        f"    {end}\n"
    )
    assert (done.returncode, done.stdout) == (code, said)
