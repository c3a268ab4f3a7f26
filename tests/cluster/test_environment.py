"""Where a sweep runs: addresses of clusters, homes, long paths and proxies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elastic_ray.cluster.address import address_problem
from elastic_ray.cluster.environment import MAX_TEMPORARY, prepare_environment
from elastic_ray.sweep.__main__ import main


@pytest.mark.parametrize(
    "address",
    ["", "auto", "local", "10.0.0.1:6379", "head:6379", "ray://head:10001", "[::1]:6379"],
)
def test_addresses_that_can_be_joined_are_left_to_ray(address: str) -> None:
    assert address_problem(address) is None


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://127.0.0.1:8265", "the address of a dashboard"),
        ("https://head", "the address of a dashboard"),
        ("head", "the port is missing"),
        ("::1", "the port is missing"),
        ("head:port", "give host:port"),
        ("head:99999", "give host:port"),
        ("tcp://head:6379", "give host:port"),
    ],
)
def test_other_addresses_are_refused_in_a_line_before_anything(
    address: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    for mode in ([], ["--dry-run"]):
        assert main(["no-such-file.yaml", *mode]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: RAY_ADDRESS: found {address}; ") and says in line


def test_a_home_that_cannot_be_written_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "missing"))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    (line,) = prepare_environment()
    home = Path(os.environ["HOME"])
    assert "cannot be written" in line and str(home) in line
    assert home.stat().st_mode & 0o777 == 0o700 and home.stat().st_uid == os.getuid()
    assert prepare_environment() == [], "the new one can be written"


def test_long_temporary_paths_and_proxies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp/" + "x" * MAX_TEMPORARY)
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "intranet,localhost")
    monkeypatch.setenv("NO_PROXY", "")
    (line,) = prepare_environment()
    assert "too long a path for Ray's sockets" in line
    assert os.environ["RAY_TMPDIR"] == "/tmp"
    assert os.environ["no_proxy"] == "intranet,localhost,127.0.0.1,::1" == os.environ["NO_PROXY"]
