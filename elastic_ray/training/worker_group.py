"""The worker group of a job: one Ray Train run that walks the job's ladders."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..cluster.ray_cluster import NODE_ID
from .job import TrainJob
from .ladder import walk

if TYPE_CHECKING:
    from ray.train import UserCallback


STARTS_IN_VAIN = 10
"""Minutes, about, that a worker group may wait for the room of its slot, e.g. while an engine ends
there; a node that is gone would be waited for in vain."""


def run_worker_group(job: TrainJob, callbacks: Sequence[UserCallback] = ()) -> None:
    """Train all ladders of the job; what comes of each is in the results, not returned.

    Raises what ended the worker group, if something did: a ladder that fails does not.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from .process_group import ProcessGroupConfig

    runtime = job.runtime
    gpus = runtime.gpus_per_worker or 0.0
    # Reports are read at every poll of the workers; the default of 2 s would hold snapshots back.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    resources = {"CPU": runtime.cpus_per_worker}
    if gpus:
        resources["GPU"] = gpus
    with tempfile.TemporaryDirectory(prefix="elastic_ray-train-") as scratch:
        TorchTrainer(
            walk,
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(
                num_workers=runtime.workers,
                use_gpu=gpus > 0,
                resources_per_worker=resources,
                label_selector=[{NODE_ID: node} for node in job.nodes] or None,
            ),
            torch_config=ProcessGroupConfig(backend="nccl" if gpus else "gloo"),
            run_config=RunConfig(
                storage_path=scratch,
                failure_config=FailureConfig(
                    max_failures=0,
                    max_preemption_failures=0,  # the trial goes on elsewhere
                    controller_failure_limit=STARTS_IN_VAIN,
                ),
                callbacks=list(callbacks),
                worker_runtime_env={"env_vars": {} if gpus else {"DS_ACCELERATOR": "cpu"}},
            ),
        ).fit()
