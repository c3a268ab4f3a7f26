"""Exports a running sweep's figures to Prometheus, through the metrics port of each Ray node.

Ray publishes each figure as `ray_elastic_NAME` with the tag `sweep`; counters end in `_total` and
begin with the run. Ray publishes a gauge once and forgets it, so all gauges are set repeatedly
(https://docs.ray.io/en/latest/ray-observability/user-guides/add-app-metrics.html).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ray.util.metrics import Counter, Gauge

from ..progress.budget import Amount, Budget
from ..progress.tracker import ProgressTracker

UPDATE_EVERY = 2.0
"""Seconds between updates; Ray passes them on every ten seconds."""
GAUGES = {
    "states_done": "States on record",
    "states_failed": "States that failed",
    "questions_answered": "Evaluation requests whose results are all on record",
    "questions_waiting": "Evaluation requests that could run now, but wait for an engine",
    "trials_waiting": "Trials that could train now, but wait for a trainer",
    "cpu_hours_used": "CPU-hours reserved by trainers, engines and scorers, over all runs",
    "gpu_hours_used": "GPU-hours reserved by trainers, engines and scorers, over all runs",
    "gpu_hours_estimated": "Estimated GPU-hours of the whole sweep; only where there are GPUs",
}
COUNTERS = {
    "examples_trained": "Examples of the sweep's states trained, by this run or by another sweep",
    "tokens_generated": "Tokens of sampled answers",
    "weight_swaps": "Swaps of an engine's weights",
}


class Metrics:
    """The figures of one sweep; `gpu_hours` is the estimate, None where there are no GPUs."""

    def __init__(self, tracker: ProgressTracker, gpu_hours: float | None) -> None:
        self._tracker, self._gpu_hours = tracker, gpu_hours
        tag = {"sweep": tracker.plan.spec.sweep}
        self._gauges = {
            name: Gauge(f"elastic_{name}", description, ("sweep",)).set_default_tags(tag)
            for name, description in GAUGES.items()
        }
        self._counters = {
            name: Counter(f"elastic_{name}", description, ("sweep",)).set_default_tags(tag)
            for name, description in COUNTERS.items()
        }
        self._exported = {
            **dict.fromkeys(COUNTERS, 0),
            "examples_trained": tracker.examples_trained(),
        }

    async def keep_up(self, waiting: Callable[[], tuple[int, int]], budget: Budget) -> None:
        """Update all figures every `UPDATE_EVERY` seconds until cancelled, and then once more.

        `waiting` returns how many trials and how many evaluation requests wait.
        """
        try:
            while True:
                self.update(*waiting(), budget.used)
                await asyncio.sleep(UPDATE_EVERY)
        finally:
            self.update(*waiting(), budget.used)

    def update(self, trials: int, requests: int, used: Amount) -> None:
        """Update all figures; `trials` and `requests` are the numbers of those that wait now."""
        tracker = self._tracker
        figures: Mapping[str, float | None] = {
            "states_done": len(tracker.done),
            "states_failed": len(tracker.failed),
            "questions_answered": len(tracker.closed),
            "questions_waiting": requests,
            "trials_waiting": trials,
            "cpu_hours_used": used.cpus,
            "gpu_hours_used": used.gpus,
            "gpu_hours_estimated": self._gpu_hours,
        }
        for name, value in figures.items():
            self._gauges[name].set(value)  # Ray leaves out a gauge that is None
        counts = {**tracker.activity.counts, "examples_trained": tracker.examples_trained()}
        for name, counter in self._counters.items():
            increase = counts.get(name, 0) - self._exported[name]
            if increase > 0:
                counter.inc(increase)
                self._exported[name] += increase
