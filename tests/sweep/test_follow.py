"""`--status --follow` shows the progress of another process until that process ends."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from elastic_ray.results.leases.sweep_lease import acquire_sweep_lease
from elastic_ray.results.store import Results

pytest.importorskip("psutil", reason="the training extra is not installed")
from sweep_process import SPEC, start, sweep

pytestmark = pytest.mark.integration


class Lines:
    """The lines that a process prints; reading waits at most two minutes."""

    def __init__(self, process: subprocess.Popen) -> None:
        assert process.stdout is not None
        self._lines: queue.Queue[str] = queue.Queue()
        self._from = process.stdout
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._from:
            self._lines.put(line)

    def next(self) -> str:
        return self._lines.get(timeout=120)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "little.yaml"
    path.write_text(SPEC)
    return path


def test_progress_is_followed_until_the_run_ends(spec: Path, tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    said = ["states 3/23"]
    with acquire_sweep_lease(
        results.folder, "little", lambda: said[0], lambda reason: None
    ) as lease:
        follower = start(spec, tmp_path / "results", "--status", "--follow")
        lines = Lines(follower)
        who = f"sweep little is run by {lease.description()}; Ctrl-C does not stop it\n"
        assert lines.next() == who
        assert lines.next() == "states 3/23\n"
        said[0] = "states 4/23"
        assert lines.next() == "states 4/23\n"
        assert follower.poll() is None
    assert follower.wait(timeout=120) == 1, "not all is measured"
    assert lines.next() == f"sweep little in {results.uri}\n"
    assert lines.next() == "not running\n"
    assert lines.next().startswith("cells: 0 done, ")


def test_ctrl_c_does_not_stop_the_sweep(spec: Path, tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    reasons: list[str] = []
    with acquire_sweep_lease(results.folder, "little", lambda: "states 3/23", reasons.append):
        follower = start(spec, tmp_path / "results", "--status", "--follow")
        lines = Lines(follower)
        assert "is run by" in lines.next()
        assert lines.next() == "states 3/23\n"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(timeout=120) == 130
        assert lines.next() == "stopped following; the sweep continues\n"
    assert not reasons


def test_following_needs_a_status(spec: Path, tmp_path: Path) -> None:
    out = sweep(spec, tmp_path / "results", "--follow")
    assert out.returncode == 2 and "--follow: is for --status" in out.stderr
    nothing = sweep(spec, tmp_path / "results", "--status", "--follow")
    assert nothing.returncode == 1 and "no such results folder" in nothing.stderr
