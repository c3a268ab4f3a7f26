"""What all cluster files have in common. `test_aws*.py` test what only `cluster.yaml` has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray", reason="the training extra is not installed")
import jsonschema
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
FILES = ("cluster.yaml", "docs/cluster-local.yaml")


def read(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return config


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_it(name: str) -> None:
    prepared = prepare_config(read(name))
    validate_config(prepared)
    with pytest.raises(jsonschema.ValidationError):
        validate_config({**prepared, "worker_types": {}})


@pytest.mark.parametrize("name", FILES)
def test_the_head_does_no_work_and_the_dashboard_stays_inside(name: str) -> None:
    config = read(name)
    [start] = [each for each in config["head_start_ray_commands"] if "ray start" in each]
    for option in ("--num-cpus=0", "--num-gpus=0", "--dashboard-host=127.0.0.1"):
        assert option in start.split()
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in commands[-1]


@pytest.mark.parametrize("name", FILES)
def test_the_code_is_mounted_and_results_are_not(name: str, tmp_path: Path) -> None:
    config = read(name)
    mounts = {
        remote.removeprefix("~/elastic_ray/"): local
        for remote, local in config["file_mounts"].items()
        if remote.startswith("~/elastic_ray/")
    }
    assert set(mounts.values()) == {"elastic_ray", "sweeps", "pyproject.toml", "README.md", ".git"}
    assert all((ROOT / local).exists() for local in mounts.values())
    if not shutil.which("rsync"):
        pytest.skip("rsync, with which Ray copies, is not installed")
    excludes = [part for each in config["rsync_exclude"] for part in ("--exclude", each)]
    source, target = f"{ROOT / mounts['elastic_ray']}/", f"{tmp_path / 'copy'}/"
    subprocess.run(["rsync", "-a", *excludes, source, target], check=True)
    code = {path.relative_to(source) for path in Path(source).rglob("*.py")}
    assert code == {path.relative_to(target) for path in Path(target).rglob("*.py")}


@pytest.mark.parametrize("name", FILES)
def test_setup_installs_the_gpu_extra_for_a_shared_results_folder(name: str) -> None:
    setup = read(name)["setup_commands"]
    assert any('pip install -q --no-build-isolation -e ".[train,gpu]"' in each for each in setup)
    assert any("export ELASTIC_RAY_RESULTS=" in each for each in setup)
