"""The commands of `cluster.yaml` that set a worker up, run in a shell as Ray runs them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray", reason="the training extra is not installed")
from ray.autoscaler._private.util import prepare_config

TEXT = (Path(__file__).parents[2] / "cluster.yaml").read_text(encoding="utf-8")


def config() -> dict[str, Any]:
    prepared: dict[str, Any] = prepare_config(yaml.safe_load(TEXT))
    return prepared


def run_as_ray(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as Ray does on a node: in an interactive shell that reads ~/.bashrc."""
    shell = f"source ~/.bashrc; export OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore && ({command})"
    return subprocess.run(
        ["bash", "--login", "-c", "-i", shell],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "USER": "me"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("mounted", [True, False])
def test_copies_and_the_hubs_cache_are_on_the_local_disks(tmp_path: Path, mounted: bool) -> None:
    home, tools, disk = tmp_path / "home", tmp_path / "tools", tmp_path / "nvme"
    for folder in (home, tools, disk):
        folder.mkdir()
    # A login shell sets its own PATH first.
    (home / ".bashrc").write_text(f"export PATH={tools}:$PATH\n")
    programs = {
        "mountpoint": f"test {int(mounted)} = 1",
        "sudo": 'shift 4; exec mkdir -p "$@"',  # install -d -o USER: only root may
        "sleep": "true",
    }
    for name, line in programs.items():
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    both = config()["setup_commands"], config()["worker_setup_commands"]
    own = [each for each in both[1] if each not in both[0]]
    assert len(own) == 2 and both[1][: len(both[0])] == both[0], "Ray runs the common ones first"
    for _ in range(2):  # Ray repeats them on a node that it starts Ray on again
        for command in own:
            done = run_as_ray(command.replace("/opt/dlami/nvme", str(disk)), home)
            assert done.returncode == 0, done.stderr
    target = disk / "elastic_ray" if mounted else home / "local"
    assert (home / "local").resolve() == target and target.is_dir()
    names = ("ELASTIC_RAY_COPIES", "HF_HOME", "HF_TOKEN_PATH")
    shown = run_as_ray(f"for name in {' '.join(names)}; do echo ${{!name}}; done", home)
    assert shown.stdout.split() == [
        f"{home}/local/copies", f"{home}/local/huggingface", f"{home}/.cache/huggingface/token",
    ]  # fmt: skip
    if not mounted:
        (home / "local").rmdir()
        done = run_as_ray(own[0].replace("/opt/dlami/nvme", str(disk)), home)
        assert f"no NVMe disk at {disk}: checkpoints and models go to the root disk" in done.stdout


def test_workers_read_the_hubs_token_from_the_mounted_file(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="the training extra is not installed")
    assert hub
    mounts = config()["file_mounts"]
    [remote] = [name for name in mounts if "huggingface" in name]
    assert mounts[remote] == remote == "~/.cache/huggingface/token"
    assert "HF_TOKEN_PATH=$HOME/.cache/huggingface/token" in TEXT and "hf_" not in TEXT
    file = tmp_path / ".cache" / "huggingface" / "token"
    file.parent.mkdir(parents=True)
    code = "from huggingface_hub import get_token; print(get_token())"
    variables = {
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "local" / "huggingface"),
        "HF_TOKEN_PATH": str(file),
        "PATH": os.environ["PATH"],
    }
    for content, token in (("hf_secret\n", "hf_secret"), ("", "None")):
        file.write_text(content)
        done = subprocess.run(
            [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == token, "an empty file is as none"


def test_workers_start_the_watcher_in_the_background(tmp_path: Path) -> None:
    """The start command returns at once, and what it started writes to its log file."""
    (tmp_path / ".bashrc").touch()
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    python = tmp_path / "venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nsleep 2\necho "$RAY_AUTH_MODE $*"\n')
    python.chmod(0o755)
    command = config()["worker_start_ray_commands"][-1]
    began = time.monotonic()
    done = run_as_ray(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 2
    log, wanted = tmp_path / "spot_watcher.log", "token -m elastic_ray.cluster.spot_watcher"
    while time.monotonic() - began < 20 and log.read_text().strip() != wanted:
        time.sleep(0.1)
    assert log.read_text().strip() == wanted
    assert importlib.util.find_spec(wanted.split()[-1]) is not None
