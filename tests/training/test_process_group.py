"""A worker group whose process group cannot be set up."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("deepspeed", reason="the training extra is not installed")

import ray
from ray.train import RunConfig, ScalingConfig
from ray.util import placement_group_table

from elastic_ray.training.group_trainer import GroupTrainer
from elastic_ray.training.process_group import ProcessGroupConfig

pytestmark = pytest.mark.integration


def test_a_group_whose_setup_fails_releases_its_placement_group(tmp_path: Path) -> None:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(Exception, match="nowhere"):
            GroupTrainer(
                lambda: None,
                scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
                backend_config=ProcessGroupConfig(backend="gloo"),
                run_config=RunConfig(
                    storage_path=str(tmp_path),
                    worker_runtime_env={"env_vars": {"GLOO_SOCKET_IFNAME": "nowhere"}},
                ),
            ).fit()
        held = placement_group_table().values()
        assert len(held) == 1 and {each["state"] for each in held} == {"REMOVED"}
    finally:
        ray.shutdown()
