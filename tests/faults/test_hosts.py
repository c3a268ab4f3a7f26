"""Simulated hosts (`hosts.Hosts`) are isolated from each other and from this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import Hosts, lacking

pytestmark = pytest.mark.integration

ONE, OTHER = "198.51.100.7", "198.51.100.9"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def hosts(
    only_hosts: None, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosts]:
    if reason := lacking(tmp_path_factory.mktemp("probe")):
        pytest.skip(f"cannot simulate hosts here: {reason}")
    with Hosts((ONE, OTHER), shared, tmp_path_factory.mktemp("layers")) as hosts:
        yield hosts


def test_a_host_has_its_own_name_and_reaches_the_other(hosts: Hosts) -> None:
    assert [hosts.on(at, "hostname").strip() for at in (ONE, OTHER)] == ["host0", "host1"]
    banner = hosts.on(ONE, f"exec 3<>/dev/tcp/{OTHER}/22 && head -n 1 <&3")
    assert banner.startswith("SSH-2.0")


def test_a_host_has_its_own_files_and_shares_one_folder(hosts: Hosts, shared: Path) -> None:
    own = [f"{folder}/mine" for folder in ("/tmp", "/root", "/dev/shm", "/etc")]
    hosts.on(ONE, f"touch {' '.join(own)} /shared/ours")
    assert hosts.on(ONE, f"ls {' '.join(own)}").split() == sorted(own)
    assert hosts.on(OTHER, f"ls {' '.join(own)}").count("No such file") == len(own)
    assert not any(Path(each).exists() for each in own)
    assert hosts.on(OTHER, "ls /shared").split() == ["ours"] == os.listdir(shared)


def test_a_host_sees_no_process_but_its_own(hosts: Hosts) -> None:
    assert set(hosts.on(ONE, "ps -e -o comm=").split()) == {"ps", "sshd"}
    # The other host's SSH server is not visible either; the client sees both servers.
    assert hosts.on(ONE, "ps -e -o args=").count("[listener]") == 1
    assert sum("[listener]" in each for each in hosts.processes()) == 2


def test_this_machines_network_is_apart(hosts: Hosts) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        for at in ("127.0.0.1", "198.51.100.1"):
            output = hosts.on(ONE, f"exec 3<>/dev/tcp/{at}/{port}")
            assert "refused" in output, output
    assert not {"switch", "host0", "host1"} & {name for _, name in socket.if_nameindex()}
