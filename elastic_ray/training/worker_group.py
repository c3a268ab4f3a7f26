"""Runs a training job in a worker group: one Ray Train run that trains the job's ladders."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..cluster.ray_cluster import NODE_ID
from .job import TrainJob
from .ladder import train_ladders

if TYPE_CHECKING:
    from ray.train import UserCallback


MAX_START_FAILURES = 10
"""Failed starts of a worker group, about one a minute, after which the run fails. The resources of
its slot may be taken for a while, e.g. by an engine that is shutting down; a node that left the
cluster never provides them."""


def run_worker_group(job: TrainJob, callbacks: Sequence[UserCallback] = ()) -> None:
    """Train all ladders of the job; blocks until they are recorded as done or failed.

    A ladder that fails raises nothing. Raises Ray Train's error where the worker group itself ends
    early.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from .process_group import ProcessGroupConfig

    runtime = job.runtime
    gpus = runtime.gpus_per_worker or 0.0
    # Ray Train reads reports when it polls the workers; its default of 2 s would delay snapshots.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    resources = {"CPU": runtime.cpus_per_worker}
    if gpus:
        resources["GPU"] = gpus
    # The type checker reads the classes of Ray Train V1; those at run time are V2's.
    with tempfile.TemporaryDirectory(prefix="elastic_ray-train-") as scratch:
        TorchTrainer(
            train_ladders,
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(  # type: ignore[call-arg]  # V2
                num_workers=runtime.workers,  # type: ignore[arg-type]  # an int once placed
                use_gpu=gpus > 0,
                resources_per_worker=resources,
                label_selector=[{NODE_ID: node} for node in job.nodes] or None,
            ),
            torch_config=ProcessGroupConfig(backend="nccl" if gpus else "gloo"),
            run_config=RunConfig(  # type: ignore[call-arg]  # V2
                storage_path=scratch,
                failure_config=FailureConfig(  # type: ignore[call-arg]  # V2
                    max_failures=0,
                    max_preemption_failures=0,  # the trial continues on other nodes
                    controller_failure_limit=MAX_START_FAILURES,
                ),
                callbacks=list(callbacks),  # type: ignore[arg-type]  # V2
                worker_runtime_env={"env_vars": {} if gpus else {"DS_ACCELERATOR": "cpu"}},
            ),
        ).fit()
