"""Counts the CPU-hours and GPU-hours that a sweep reserves, and stops it once its budget is spent.

Reserved resources count whether they are busy or idle; fractional GPUs count pro rata. A trainer
counts from launch to exit, an engine or scorer from start to shutdown. The short tasks that make
start states and scorers do not count, nor do nodes on which nothing is reserved.

Every run of a sweep is a row of the table `runs`, so the hours of all runs can be summed. A driver
that is killed loses the hours since it last wrote its row. A budget applies to all runs with the
same sweep name in the same results folder.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..placement import ResourceNeeds
from ..results.leases.sweep_lease import SweepLease
from ..results.store import Results
from ..spec import Resources

SAMPLE_EVERY = 0.5
"""Sampling interval (seconds) of the reserved resources."""


@dataclass(frozen=True, slots=True)
class Amount:
    """CPUs and GPUs, or CPU-hours and GPU-hours."""

    cpus: float = 0.0
    gpus: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.cpus + other.cpus, self.gpus + other.gpus)

    def times(self, factor: float) -> Amount:
        """Return the amount multiplied by a factor."""
        return Amount(self.cpus * factor, self.gpus * factor)

    def text(self) -> str:
        """Return the hours as text, such as "1.5 CPU-hours and 0.25 GPU-hours"."""
        gpus = f" and {self.gpus:.3g} GPU-hours" if self.gpus else ""
        return f"{self.cpus:.3g} CPU-hours{gpus}"


class Meter:
    """Integrates samples of reserved resources over time; a sample applies until the next one.

    Times are seconds of a monotonic clock.
    """

    def __init__(self, now: float) -> None:
        self.hours = Amount()
        self._reserved, self._since = Amount(), now

    def sample(self, reserved: Amount, now: float) -> None:
        """Add a sample: `reserved` applies from `now` on."""
        self.hours += self._reserved.times((now - self._since) / 3600)
        self._reserved, self._since = reserved, now


def reserved_resources(needs: ResourceNeeds, trainers: int, replicas: Mapping[str, int]) -> Amount:
    """Return the resources of all trainers and of the replicas of each engine group and scorer."""
    worker = needs.worker
    total = Amount(worker.cpus, worker.gpus).times(trainers * needs.workers)
    for name, count in replicas.items():
        need = needs.engines.get(name, needs.scorer)
        total += Amount(need.cpus, need.gpus).times(count)
    return total


def exhausted_limit(limits: Resources, used: Amount) -> str | None:
    """Return a message that names the first limit that is used up; None if there is none."""
    for field, unit, limit, hours in _limits(limits, used):
        if hours >= limit:
            return f"the budget is used up: {hours:.4g} of {limit:g} {unit} ({field})"
    return None


def budget_text(limits: Resources, used: Amount) -> str | None:
    """Return a message with the used share of each limit; None if no limit is set."""
    parts = [
        f"{hours:.3g} of {limit:g} {unit} ({field})"
        for field, unit, limit, hours in _limits(limits, used)
    ]
    return f"budget: used {', '.join(parts)}" if parts else None


def gpu_limit_notice(limits: Resources, needs: ResourceNeeds) -> str | None:
    """Return a message if GPU-hours are limited although nothing reserves a GPU; else None."""
    if limits.max_gpu_hours is None or needs.uses_gpus:
        return None
    return (
        "resources.max_gpu_hours has no effect: no trainer, engine or scorer uses a GPU; "
        "set resources.max_cpu_hours instead"
    )


def _limits(limits: Resources, used: Amount) -> list[tuple[str, str, float, float]]:
    """Return (field, unit, limit, used) for every limit that is set."""
    both = (
        ("resources.max_gpu_hours", "GPU-hours", limits.max_gpu_hours, used.gpus),
        ("resources.max_cpu_hours", "CPU-hours", limits.max_cpu_hours, used.cpus),
    )
    return [(field, unit, limit, hours) for field, unit, limit, hours in both if limit is not None]


def recorded_hours(results: Results, sweep: str) -> Amount:
    """Return the hours of all recorded runs of the sweep; `ResultsError` if they are unreadable."""
    return sum((_hours(row) for row in _runs(results, sweep)), Amount())


class Budget:
    """The hours of the run that holds `lease`, added to those of the sweep's earlier runs."""

    def __init__(self, results: Results, lease: SweepLease, limits: Resources) -> None:
        self._results, self._lease, self._limits = results, lease, limits
        self._earlier = _runs(results, lease.sweep)
        self._before = sum(map(_hours, self._earlier), Amount())
        self._meter = Meter(time.monotonic())
        self.exhausted = exhausted_limit(limits, self.used)
        """Why the sweep must stop, as a message; None while budget is left."""

    @property
    def used(self) -> Amount:
        """The hours of all runs of the sweep, this one included."""
        return self._before + self._meter.hours

    def text(self) -> str | None:
        """Return a message with the used share of each limit; None if no limit is set."""
        return budget_text(self._limits, self.used)

    async def count(self, reserved: Callable[[], Amount], stop: Callable[[str], None]) -> None:
        """Count the resources that `reserved` returns, until cancelled.

        Calls `stop` once, with a message, when the budget is used up.
        """
        try:
            while True:
                self._meter.sample(reserved(), time.monotonic())
                if self.exhausted is None:
                    self.exhausted = exhausted_limit(self._limits, self.used)
                    if self.exhausted:
                        stop(self.exhausted)
                await asyncio.sleep(SAMPLE_EVERY)
        finally:
            self._meter.sample(Amount(), time.monotonic())

    def record(self) -> None:
        """Write this run's row and keep those of earlier runs; raises `ResultsError` on failure."""
        hours = self._meter.hours
        if hours == Amount():
            return
        lease = self._lease
        row = {
            "run": lease.token,
            "host": lease.host,
            "started_at": dt.datetime.fromtimestamp(lease.since, dt.UTC),
            "recorded_at": dt.datetime.now(dt.UTC),
            "cpu_hours": hours.cpus,
            "gpu_hours": hours.gpus,
        }
        self._results.replace("runs", lease.sweep, [*self._earlier, {"sweep": lease.sweep, **row}])


def _runs(results: Results, sweep: str) -> list[dict[str, Any]]:
    if not results.has("runs", sweep=sweep):
        return []
    rows: list[dict[str, Any]] = results.read("runs", sweep=sweep).to_pylist()
    return rows


def _hours(row: Mapping[str, Any]) -> Amount:
    return Amount(row["cpu_hours"], row["gpu_hours"])
