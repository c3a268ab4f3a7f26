"""A trial's own process under Ray Tune: has a worker group train, passes on what that reports.

Tune's own way to do so (`TuneReportCallback`, Ray 2.60) can stop for good: where the last report of
the workers is still on its way while the function ends, which needs a driver that is busy for a
second, the thread that hands results to Tune waits for itself. Here the function itself hands them
on, and ends after the last.
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

from ..cluster.ray_cluster import gone
from ..training.job import TrainJob

LOOK = 5.0
"""Seconds between looks whether the nodes are alive."""
POLL = 0.5
"""Seconds within which the end of the training is noticed."""


def trial_trainable(jobs: Mapping[str, TrainJob]) -> Callable[[dict[str, Any]], None]:
    """What a trial does: train its ladders. `jobs` holds, by task, the job with all its ladders; a
    trial takes its own from it, so that Tune's configs stay tiny."""
    trial: Callable[[dict[str, Any]], None] = tune.with_parameters(_trial, jobs=dict(jobs))
    return trial


def _trial(config: dict[str, Any], jobs: Mapping[str, TrainJob]) -> None:
    """A worker group that walks the trial's ladders."""
    here = ray.get_runtime_context().get_node_id()
    tune.report({"node": here})
    job, wanted = jobs[config["task"]], set(config["ladders"])
    ladders = tuple(ladder for ladder in job.ladders if ladder.id in wanted)
    job = replace(job, trial=config["trial"], ladders=ladders, nodes=tuple(config["nodes"]))
    beside = NodeAffinitySchedulingStrategy(here, soft=False)
    told = Queue(1, actor_options={"num_cpus": 0, "scheduling_strategy": beside})
    ended = threading.Event()
    watching = threading.Thread(target=_end_with, args=(job.nodes, ended), daemon=True)
    watching.start()
    try:
        for report in _reports(job, told):
            tune.report(report)
    finally:
        ended.set()


def _reports(job: TrainJob, told: Queue) -> Iterator[dict[str, Any]]:
    """Train; what the workers report meanwhile, and at last what ended them, if something did."""
    from ..training.report_callback import ReportCallback
    from ..training.worker_group import train

    crashes: list[str] = []

    def work() -> None:
        try:
            train(job, callbacks=[ReportCallback(told)])
        except Exception as e:
            crashes.append(f"{type(e).__name__}: {e}"[:2000])

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    while worker.is_alive() or not told.empty():
        with contextlib.suppress(Empty):
            yield told.get(timeout=POLL)
    yield from ({"crash": crash} for crash in crashes)


def _end_with(nodes: Sequence[str], ended: threading.Event) -> None:
    """End this process if one of the nodes is dead, and `ended` is not set.

    Ray Train would go on trying for minutes to start workers there. Its controller ends with this
    process.
    """
    while not ended.wait(LOOK):
        if gone(nodes, leaving=False) and not ended.wait(LOOK):
            os._exit(1)
