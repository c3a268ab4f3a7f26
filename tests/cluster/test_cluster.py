"""The cluster files: Ray accepts them, and they keep what docs/how-to/aws.md promises."""

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


def test_aws_workers_are_spot_first_and_go_when_idle() -> None:
    config = prepare_config(read("cluster.yaml"))
    nodes = config["available_node_types"]
    head, spot, fallback = nodes["head"], nodes["gpu_spot"], nodes["gpu_on_demand"]
    assert config["head_node_type"] == "head"
    assert not any(head["resources"].values())
    assert spot["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in fallback["node_config"]
    assert "InstanceMarketOptions" not in head["node_config"]
    assert spot["priority"] > fallback["priority"]
    assert spot["resources"] == fallback["resources"]
    assert spot["resources"]["GPU"] > 0
    assert {node["min_workers"] for node in nodes.values()} == {0}
    assert 0 < config["idle_timeout_minutes"] <= 30
    assert config["provider"]["cache_stopped_nodes"] is False


def test_aws_lets_nothing_in_but_ssh() -> None:
    pytest.importorskip("boto3", reason="Ray's AWS part needs boto3")
    from ray.autoscaler._private.aws import config as aws

    config = read("cluster.yaml")
    rules = aws._create_default_inbound_rules(
        ["sg-own"], config["provider"]["security_group"].get("IpPermissions", [])
    )
    [outside] = [rule for rule in rules if rule.get("IpRanges")]
    assert (outside["FromPort"], outside["ToPort"]) == (22, 22)
    [inside] = [rule for rule in rules if rule is not outside]
    assert inside["UserIdGroupPairs"] == [{"GroupId": "sg-own"}]


def test_what_is_to_be_filled_in_is_explained() -> None:
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "how-to" / "aws.md").read_text(encoding="utf-8")
    names = {word.strip("{},:\"'") for word in text.replace("/", " ").split() if "REPLACE-" in word}
    assert names
    assert all(f"| `{name}` |" in page for name in names)
