"""The function that Ray Tune runs for each trial: trains its ladders in a worker group.

The group is an actor of the driver's, which lives longer than the trial. The function forwards the
group's reports to Tune, and returns after the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError

from ..cluster.ray_cluster import departed_nodes
from ..training.job import TrainJob

NODE_CHECK_INTERVAL = 5.0
"""Seconds between checks that the workers' nodes are alive."""
REPORT_TIMEOUT = 1.0
"""Seconds to wait for a report before the nodes are checked."""


def trial_trainable(jobs: Mapping[str, TrainJob]) -> Callable[[dict[str, Any]], None]:
    """Return the trainable for Ray Tune, which trains the ladders that a trial's config names.

    `jobs` maps each task to the job with all its ladders. Ray ships it once, so a trial's config
    holds ids only.
    """
    trainable: Callable[[dict[str, Any]], None] = tune.with_parameters(_run_trial, jobs=dict(jobs))
    return trainable


def _run_trial(config: dict[str, Any], jobs: Mapping[str, TrainJob]) -> None:
    """Train the ladders of a trial, whose `config` is `TrialSearcher.suggest`'s."""
    tune.report({"node": ray.get_runtime_context().get_node_id()})
    job, ids = jobs[config["task"]], set(config["ladders"])
    ladders = tuple(ladder for ladder in job.ladders if ladder.id in ids)
    job = replace(job, trial=config["trial"], ladders=ladders, nodes=tuple(config["nodes"]))
    for report in reports_of(ray.get_actor(config["group"]), job):
        tune.report(report)


def reports_of(group: Any, job: TrainJob) -> Iterator[dict[str, Any]]:
    """Train a job in the group of that actor, and yield its reports.

    The last one has the key `ended`, or is the group's error as `crash`.
    """
    checked = time.monotonic()
    try:
        yield {"node": ray.get(group.node.remote())}
        ray.get(group.start.remote(job))
        while True:
            for report in ray.get(group.reports.remote(REPORT_TIMEOUT)):
                yield report
                if "ended" in report or "crash" in report:
                    return
            if time.monotonic() - checked > NODE_CHECK_INTERVAL:
                # Ray Train would try for minutes to start workers on a node that is dead.
                if departed_nodes(job.nodes, leaving=False):
                    yield {"crash": "a node of its workers has left the cluster"}
                    return
                checked = time.monotonic()
    except (RayActorError, RuntimeError) as e:
        yield {"crash": f"{type(e).__name__}: {e}"[:2000]}
