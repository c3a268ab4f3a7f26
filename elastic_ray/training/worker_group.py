"""A worker group: one Ray Train run whose workers train one job after another.

Its processes take tens of seconds to start and to import their libraries, so a group is kept and
used for many trials. `WorkerGroup` is an actor of the driver's; its Ray Train run ends with it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import os
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray

from ..cluster.declared_gpus import usable_gpus
from ..cluster.ray_cluster import NODE_ID
from ..spec import Runtime
from .job import TrainJob, WorkerReport
from .ladder import LadderTrainer

if TYPE_CHECKING:
    from ray.actor import ActorHandle


MAX_START_FAILURES = 10
"""Failed starts of a worker group, about one a minute, after which the run fails. The resources of
its slot may be taken for a while, e.g. by an engine that is shutting down; a node that left the
cluster never provides them."""
POLL_INTERVAL = 0.02
"""Seconds between checks for a new job or report."""
CLOSE_TIMEOUT = 60.0
"""Seconds that the workers have to end after `close`; then their processes are killed."""


class WorkerGroup:
    """The actor that starts a worker group on `nodes` and hands it jobs.

    `nodes` holds the node id of each worker; empty lets Ray choose. Workers get at most one job at
    a time. All methods are coroutines, so that none of them blocks another.
    """

    def __init__(self, runtime: Runtime, nodes: Sequence[str]) -> None:
        self._jobs: list[TrainJob] = []
        self._reports: deque[WorkerReport] = deque()
        self._closing = False
        self._error: str | None = None
        own: ActorHandle[WorkerGroup] = ray.get_runtime_context().current_actor
        self._run = threading.Thread(target=self._train, args=(own, runtime, nodes), daemon=True)
        self._run.start()

    def _train(self, own: Any, runtime: Runtime, nodes: Sequence[str]) -> None:
        try:
            _run_workers(own, runtime, nodes)
        except Exception as e:
            self._error = f"{type(e).__name__}: {e}"[:2000]

    async def node(self) -> str:
        """Return the id of the node of this actor; fails once the group has ended."""
        if not self._run.is_alive():
            raise RuntimeError(self._error or "the worker group has ended")
        return str(ray.get_runtime_context().get_node_id())

    async def start(self, job: TrainJob) -> None:
        """Give the workers a job. The reports of the job before must have been taken."""
        self._jobs.append(job)

    async def reports(self, timeout: float) -> list[dict[str, Any]]:
        """Return the reports since the last call, in order; wait for one at most `timeout` seconds.

        The last report of a job has the key `ended`. A report with the one key `crash` holds the
        error that ended the group.
        """
        for _ in range(max(1, round(timeout / POLL_INTERVAL))):
            if self._reports or not self._run.is_alive():
                break
            await asyncio.sleep(POLL_INTERVAL)
        ended = not self._run.is_alive()  # before the last reports are taken
        taken: list[dict[str, Any]] = []
        while self._reports:
            taken.append(dict(self._reports.popleft()))
        if ended:
            taken.append({"crash": self._error or "the worker group has ended"})
        return taken

    async def close(self) -> None:
        """End the workers once their job has ended, and then this actor."""
        self._closing = True
        for _ in range(round(CLOSE_TIMEOUT / POLL_INTERVAL)):
            if not self._run.is_alive():
                break
            await asyncio.sleep(POLL_INTERVAL)
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]  # Ray does not annotate it

    # Called by the workers.

    async def job(self, index: int) -> TrainJob | None:
        """Wait for the job of that index, and return it; None once the group is closed."""
        while len(self._jobs) <= index:
            if self._closing:
                return None
            await asyncio.sleep(POLL_INTERVAL)
        return self._jobs[index]

    async def report(self, report: WorkerReport) -> None:
        """Take a report of rank 0."""
        self._reports.append(report)


def _run_workers(group: Any, runtime: Runtime, nodes: Sequence[str]) -> None:
    """Start the workers and wait until they have ended. Raises Ray Train's error if one fails."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from .group_trainer import GroupTrainer
    from .process_group import ProcessGroupConfig

    gpus = runtime.gpus_per_worker or 0.0
    on_gpus = bool(usable_gpus(gpus))
    # How often Ray Train checks its workers; its default is 2 s.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    resources = {"CPU": runtime.cpus_per_worker}
    if gpus:
        resources["GPU"] = gpus
    # The type checker reads the classes of Ray Train V1; those at run time are V2's.
    with tempfile.TemporaryDirectory(prefix="elastic_ray-train-") as scratch:
        GroupTrainer(
            work,
            train_loop_config={"group": group, "threads": math.ceil(runtime.cpus_per_worker)},
            scaling_config=ScalingConfig(  # type: ignore[call-arg]  # V2
                num_workers=runtime.workers,  # type: ignore[arg-type]  # an int once placed
                use_gpu=gpus > 0,
                resources_per_worker=resources,
                label_selector=[{NODE_ID: node} for node in nodes] or None,
            ),
            backend_config=ProcessGroupConfig(backend="nccl" if on_gpus else "gloo"),
            run_config=RunConfig(  # type: ignore[call-arg]  # V2
                storage_path=scratch,
                failure_config=FailureConfig(  # type: ignore[call-arg]  # V2
                    max_failures=0,
                    max_preemption_failures=0,  # the trial continues on other nodes
                    controller_failure_limit=MAX_START_FAILURES,
                ),
                worker_runtime_env={"env_vars": {} if on_gpus else {"DS_ACCELERATOR": "cpu"}},
            ),
        ).fit()


def work(config: Mapping[str, Any]) -> None:
    """Train the jobs of a group until it is closed: the train function of a Ray Train worker.

    `config` holds the group's actor and the number of threads for torch.
    """
    import deepspeed  # noqa: F401
    import ray.train
    import torch

    gc.freeze()  # the collection after each ladder need not visit the libraries' objects
    torch.set_num_threads(config["threads"])
    context, group = ray.train.get_context(), config["group"]
    rank, workers = context.get_world_rank(), context.get_world_size()

    def send(report: WorkerReport) -> None:
        if rank == 0:
            ray.get(group.report.remote(report))

    def is_preempted() -> bool:
        return ray.train.get_preemption_info() is not None

    for index in itertools.count():
        job = ray.get(group.job.remote(index))
        if job is None:
            return
        LadderTrainer(job, rank, workers, send, is_preempted).train_job()
