"""A running sweep's figures for Prometheus, through Ray: every node's metrics port tells what the
processes on it measure, and Ray's dashboard and Prometheus read it there.

Each is called `ray_elastic_...` there and carries the sweep's name as the tag `sweep`; what is
counted (`_total`) begins with the run. Ray tells a gauge once and forgets it, so all are set again
and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ray.util.metrics import Counter, Gauge

from ..progress.budget import Amount, Budget
from ..progress.tracker import ProgressTracker

EVERY = 2.0
"""Seconds between updates; Ray passes them on every ten."""
FIGURES = {
    "states_done": "States on record",
    "states_failed": "States that failed",
    "questions_answered": "Questions of which all is on record",
    "questions_waiting": "Questions that could be asked now, but wait for an engine",
    "trials_waiting": "Trials that could train now, but wait for a trainer",
    "cpu_hours_used": "CPU-hours held by trainers, engines and scorers, over all runs",
    "gpu_hours_used": "GPU-hours held by trainers, engines and scorers, over all runs",
    "gpu_hours_estimated": "GPU-hours of the whole sweep, as estimated; only where there are GPUs",
}
COUNTED = {
    "examples_trained": "Examples of the sweep's states trained, by this run or by another sweep",
    "tokens_generated": "Tokens of answers",
    "weight_swaps": "Changes of an engine's weights",
}


class Metrics:
    """The figures of one sweep; `gpu_hours` is the estimate, None where there are no GPUs."""

    def __init__(self, tracker: ProgressTracker, gpu_hours: float | None) -> None:
        self._tracker, self._gpu_hours = tracker, gpu_hours
        tag = {"sweep": tracker.plan.spec.sweep}
        self._gauges = {
            name: Gauge(f"elastic_{name}", words, ("sweep",)).set_default_tags(tag)
            for name, words in FIGURES.items()
        }
        self._counters = {
            name: Counter(f"elastic_{name}", words, ("sweep",)).set_default_tags(tag)
            for name, words in COUNTED.items()
        }
        self._told = {**dict.fromkeys(COUNTED, 0), "examples_trained": tracker.examples_trained()}

    async def keep_up(self, waiting: Callable[[], tuple[int, int]], budget: Budget) -> None:
        """Show all figures again and again until cancelled, and then once more; `waiting` tells
        how many trials and questions wait."""
        try:
            while True:
                self.show(*waiting(), budget.used)
                await asyncio.sleep(EVERY)
        finally:
            self.show(*waiting(), budget.used)

    def show(self, trials: int, requests: int, used: Amount) -> None:
        """Bring all figures up to date; so many trials and questions wait now."""
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
            self._gauges[name].set(value)  # None: left out
        counted = {**tracker.activity.counts, "examples_trained": tracker.examples_trained()}
        for name, counter in self._counters.items():
            more = counted.get(name, 0) - self._told[name]
            if more > 0:
                counter.inc(more)
                self._told[name] += more
