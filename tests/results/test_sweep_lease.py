"""The sweep lease: one driver at a time, expiry, heartbeats, and stop requests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("psutil", reason="the training extra is not installed")
import sweep_process

from elastic_ray.results.errors import ResultsError
from elastic_ray.results.leases import sweep_lease
from elastic_ray.results.leases.sweep_lease import SweepLeaseHeld, current_lease
from elastic_ray.results.storage.folder import Folder
from elastic_ray.results.store import Results


def held(folder: Folder, stop: object = None, progress: str = "half-way"):  # type: ignore[no-untyped-def]
    return sweep_lease.acquire_sweep_lease(
        folder, "s", lambda: progress, stop or (lambda reason: None)
    )  # type: ignore[arg-type]


def test_a_lease_has_one_holder_and_is_released(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert current_lease(folder, "s") is None
    with held(folder) as lease:
        assert current_lease(folder, "s") == lease
        with pytest.raises(SweepLeaseHeld, match=f"process {os.getpid()} on "), held(folder):
            pass
        with sweep_lease.acquire_sweep_lease(folder, "another", str, print):
            pass
    assert current_lease(folder, "s") is None


def test_of_many_concurrent_drivers_one_gets_the_lease(tmp_path: Path) -> None:
    folder, ends = Folder(tmp_path), threading.Event()

    def take(_: int) -> bool:
        try:
            with held(folder):
                ends.wait(20)
                return True
        except SweepLeaseHeld:
            return False

    with ThreadPoolExecutor(16) as pool:
        taken = [pool.submit(take, i) for i in range(16)]
        while sum(each.done() for each in taken) < 15:
            time.sleep(0.01)
        ends.set()
    assert sum(each.result() for each in taken) == 1


def test_the_lease_of_a_dead_process_has_expired(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from elastic_ray.results.leases.sweep_lease import acquire_sweep_lease\n"
        "from elastic_ray.results.storage.folder import Folder\n"
        "with acquire_sweep_lease(Folder(sys.argv[1]), 's', str, print):\n"
        "    os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60, check=False)
    assert done.returncode == 9
    folder = Folder(tmp_path)
    left = current_lease(folder, "s")
    assert left is not None and left.expired()
    elsewhere = replace(left, place="another machine")
    assert not elsewhere.expired(), "only its age counts for a process on another machine"
    assert replace(elsewhere, heard=time.time() - sweep_lease.EXPIRY_SECONDS - 1).expired()
    with held(folder) as lease:
        assert current_lease(folder, "s") == lease


def test_the_holder_sends_heartbeats_and_sees_stop_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_lease, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(sweep_lease, "HEARTBEAT_SECONDS", 0.05)
    folder, asked, reasons = Folder(tmp_path), threading.Event(), []

    def stop(reason: str) -> None:
        reasons.append(reason)
        asked.set()

    with held(folder, stop) as lease:
        deadline = time.monotonic() + 20
        while (now := current_lease(folder, "s")) is None or now.heard == lease.heard:
            assert time.monotonic() < deadline
        assert now.progress == "half-way"
        sweep_lease.request_stop(folder, replace(lease, token="an earlier run's"))
        assert not asked.wait(0.2)
        sweep_lease.request_stop(folder, lease)
        assert asked.wait(20)
    assert reasons == ["a stop was requested with --stop"]
    assert not list((tmp_path / "leases").glob("s.*"))


def test_a_replaced_holder_stops_and_leaves_the_new_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_lease, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(sweep_lease, "HEARTBEAT_SECONDS", 0.05)
    folder, stopped = Folder(tmp_path), threading.Event()
    with held(folder, lambda reason: stopped.set()) as lease:
        with sweep_lease.lease_lock(folder):
            sweep_lease._write(folder, replace(lease, token="other", host="other"))
        assert stopped.wait(20)
    now = current_lease(folder, "s")
    assert now is not None and now.host == "other"


def test_a_damaged_lease_is_named(tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    (tmp_path / "leases" / "s.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"s\.json is not a lease"), held(Folder(tmp_path)):
        pass


@pytest.mark.integration
def test_a_running_sweep_is_shown_kept_exclusive_and_stopped(tmp_path: Path, scorers: Path) -> None:
    pytest.importorskip("ray", reason="the training extra is not installed")
    spec, results = tmp_path / "little.yaml", tmp_path / "results"
    engine = "resources: {engines: {engine: transformers}, scorers"  # quicker to start
    spec.write_text(sweep_process.SPEC.replace("resources: {scorers", engine))
    nobody = sweep_process.sweep(spec, results, "--stop")
    assert nobody.returncode == 1 and "no such results folder" in nobody.stderr
    shutil.copytree(scorers, results / "scorers")
    run = sweep_process.start(spec, results)
    sweep_process.until(run, lambda: len(Results(results).recorded("states")) >= 1)

    second = sweep_process.sweep(spec, results)
    assert second.returncode == 1
    assert f"already runs on these results: process {run.pid} on " in second.stderr

    before = {path: path.stat().st_mtime_ns for path in results.glob("[cs]*/**/*.parquet")}
    shown = sweep_process.sweep(spec, results, "--status")
    assert shown.returncode == 0, shown.stderr
    assert f"run by process {run.pid} on " in shown.stdout
    assert f"of {sweep_process.CELLS}" in shown.stdout
    assert "states: " in shown.stdout and "left to train: " in shown.stdout
    assert all(path.exists() for path in before), "--status deletes nothing"

    stopped = sweep_process.sweep(spec, results, "--stop")
    assert stopped.returncode == 0, stopped.stderr
    out, _ = run.communicate(timeout=600)
    assert run.returncode == 130, out
    assert "a stop was requested with --stop" in out and "run the same command to continue" in out
    sweep_process.nothing_is_left()

    after = sweep_process.sweep(spec, results, "--status")
    assert "not running" in after.stdout
    again = sweep_process.sweep(spec, results, "--stop")
    assert again.returncode == 1 and "little is not running" in again.stderr
