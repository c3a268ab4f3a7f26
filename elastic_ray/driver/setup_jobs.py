"""What must be there before anything trains or is judged: start states, and tasks' own scorers.

Both are made by short Ray tasks, wherever there is room, once: what is there is used as it is.
"""

from __future__ import annotations

import os
import time
from typing import Any

import ray

from ..placement import SETUP_CPUS, Layout, memory_share
from ..plan import Plan, settings_of
from ..progress.tracker import ProgressTracker
from ..results.store import Results
from ..serving.types import ScorerConfig
from ..training.provenance import git_revision


async def make_start(plan: Plan, results: Results, tracker: ProgressTracker, state: str) -> None:
    """Make and record a start state; raises what kept it from being made."""
    task = plan.start_task[state]
    tracker.activity.set(f"start {state}", "making start states")
    began = time.monotonic()
    try:
        await _prepare_start.remote(
            results.uri,
            state,
            plan.starts[state],
            task,
            settings_of(plan, task),
            plan.spec.sweep,
            plan.lineage(state),
            git_revision(),
        )
    finally:
        tracker.activity.add_seconds("make starts", time.monotonic() - began)
        tracker.activity.clear(f"start {state}")


async def make_scorer(
    plan: Plan, results: Results, tracker: ProgressTracker, layout: Layout, task: str
) -> tuple[ScorerConfig, float | None]:
    """The task's scorer: its configuration, and its held-out accuracy where it is the task's own,
    which is trained here if it is not there."""
    backend = next(each.scorer for each in plan.spec.task if each.name == task)
    assert backend is not None  # only what is to be judged needs one
    serving = plan.spec.resources.scorers
    name = plan.probes[task].scorer
    accuracy: float | None = None
    checkpoint = backend.hub or (os.path.abspath(backend.path) if backend.path else None)
    if checkpoint is None:
        tracker.activity.set("classifier", f"training the scorer {name}")
        began = time.monotonic()
        record = await _train_scorer.remote(results.uri, task, settings_of(plan, task), name)
        accuracy = float(record["accuracy"])
        checkpoint = results.location(f"scorers/{name}")
        tracker.activity.add_seconds("train scorers", time.monotonic() - began)
        tracker.activity.clear("classifier")
    return ScorerConfig(
        name=name,
        kind=serving.engine,
        checkpoint=checkpoint,
        revision=backend.revision,
        mode=backend.mode,
        label=backend.label,
        sign=backend.sign,
        max_model_len=serving.context,
        replicas=layout.scorer_replicas,
        cpus=layout.needs.scorer.cpus,
        gpus=layout.needs.scorer.gpus,
        gpu_memory_utilization=memory_share(serving, layout.needs.scorer.gpus),
        trust_remote_code=backend.trust_remote_code,
    ), accuracy


@ray.remote(num_cpus=SETUP_CPUS, max_retries=1)
def _prepare_start(*arguments: Any) -> None:
    from ..training.start_states import prepare_start

    prepare_start(*arguments)


@ray.remote(num_cpus=SETUP_CPUS, max_retries=1)
def _train_scorer(uri: str, task: str, data: dict[str, Any], name: str) -> dict[str, Any]:
    from ..training.scorer_training import train_classifier

    return train_classifier(uri, task, data, name)
