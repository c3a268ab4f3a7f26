"""A container's quota and memory limit are those of the sweep, as Ray sees them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elastic_ray.cluster.limits import usable_cpus, usable_memory


def cgroup(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


V1_QUOTA, V1_PERIOD = "cpu__cpu_DOT_cfs_quota_us", "cpu__cpu_DOT_cfs_period_us"


def test_a_cpu_quota_counts_in_both_versions_of_cgroups(tmp_path: Path) -> None:
    own = float(os.cpu_count() or 1)
    assert usable_cpus(cgroup(tmp_path / "none")) == own
    assert usable_cpus(cgroup(tmp_path / "1", **{V1_QUOTA: "100000", V1_PERIOD: "100000"})) == 1
    assert usable_cpus(cgroup(tmp_path / "2", cpu_DOT_max="150000 100000")) == 1
    assert usable_cpus(cgroup(tmp_path / "3", cpu_DOT_max="max 100000")) == own
    assert usable_cpus(cgroup(tmp_path / "4", **{V1_QUOTA: "-1", V1_PERIOD: "100000"})) == own
    assert usable_cpus(cgroup(tmp_path / "5", cpu_DOT_max="50000 100000")) == 1, "never 0"
    assert usable_cpus(cgroup(tmp_path / "6", cpuset__cpuset_DOT_cpus="0")) == 1


def test_the_quota_is_the_one_that_ray_sees(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the training extra is not installed")
    from ray._private.utils import _get_docker_cpus

    for quota in ("100000", "1000000"):
        root = cgroup(tmp_path / quota, **{V1_QUOTA: quota, V1_PERIOD: "100000"})
        seen = _get_docker_cpus(
            str(root / "cpu/cpu.cfs_quota_us"), str(root / "cpu/cpu.cfs_period_us"), "", ""
        )
        assert seen == float(quota) / 100_000
        assert usable_cpus(root) == min(seen, os.cpu_count() or 1)


def test_a_memory_limit_counts(tmp_path: Path) -> None:
    machine = usable_memory(cgroup(tmp_path / "none"))
    assert machine > 2**28
    assert usable_memory(cgroup(tmp_path / "2", memory_DOT_max=str(2**27))) == 2**27
    assert usable_memory(cgroup(tmp_path / "3", memory_DOT_max="max")) == machine
    assert usable_memory(cgroup(tmp_path / "1", memory__memory_DOT_limit_in_bytes=str(2**26))) == (
        2**26
    )
