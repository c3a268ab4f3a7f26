"""The function that Ray Tune runs for each trial: starts a worker group and forwards its reports.

It replaces Tune's own `TuneReportCallback`, which can deadlock (Ray 2.60): if the last report of
the workers is still on its way while the function ends, which takes a driver that is busy for a
second, the thread that hands results to Tune waits for itself. Here the function forwards the
reports itself and returns after the last one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray import tune
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..cluster.ray_cluster import departed_nodes
from ..training.job import TrainJob

NODE_CHECK_INTERVAL = 5.0
"""Seconds between checks that the workers' nodes are alive."""
QUEUE_POLL_INTERVAL = 0.5
"""Seconds to wait for a report before checking whether the training has ended."""


def trial_trainable(jobs: Mapping[str, TrainJob]) -> Callable[[dict[str, Any]], None]:
    """Return the trainable for Ray Tune, which trains the ladders that a trial's config names.

    `jobs` maps each task to the job with all its ladders. Ray ships it once, so a trial's config
    holds ids only.
    """
    trainable: Callable[[dict[str, Any]], None] = tune.with_parameters(_run_trial, jobs=dict(jobs))
    return trainable


def _run_trial(config: dict[str, Any], jobs: Mapping[str, TrainJob]) -> None:
    """Train the ladders of a trial, whose `config` is `TrialSearcher.suggest`'s."""
    own_node = ray.get_runtime_context().get_node_id()
    tune.report({"node": own_node})
    job, ids = jobs[config["task"]], set(config["ladders"])
    ladders = tuple(ladder for ladder in job.ladders if ladder.id in ids)
    job = replace(job, trial=config["trial"], ladders=ladders, nodes=tuple(config["nodes"]))
    same_node = NodeAffinitySchedulingStrategy(own_node, soft=False)
    queue = Queue(1, actor_options={"num_cpus": 0, "scheduling_strategy": same_node})
    ended = threading.Event()
    threading.Thread(target=_exit_if_node_dies, args=(job.nodes, ended), daemon=True).start()
    try:
        for report in _reports(job, queue):
            tune.report(report)
    finally:
        ended.set()


def _reports(job: TrainJob, queue: Queue) -> Iterator[dict[str, Any]]:
    """Run the worker group and yield its reports; at last its error as `crash`, if it had one."""
    from ..training.report_callback import ReportCallback
    from ..training.worker_group import run_worker_group

    errors: list[str] = []

    def run() -> None:
        try:
            run_worker_group(job, callbacks=[ReportCallback(queue)])
        except Exception as e:
            errors.append(f"{type(e).__name__}: {e}"[:2000])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive() or not queue.empty():
        with contextlib.suppress(Empty):
            yield queue.get(timeout=QUEUE_POLL_INTERVAL)
    yield from ({"crash": error} for error in errors)


def _exit_if_node_dies(nodes: Sequence[str], ended: threading.Event) -> None:
    """Exit this process if one of the nodes is dead and `ended` is not set.

    Otherwise Ray Train would try for minutes to start workers there. Its controller ends with this
    process.
    """
    while not ended.wait(NODE_CHECK_INTERVAL):
        if departed_nodes(nodes, leaving=False) and not ended.wait(NODE_CHECK_INTERVAL):
            os._exit(1)
