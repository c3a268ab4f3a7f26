"""What a sweep holds of its cluster, in hours, and the budget that ends it.

Counted is what Ray sets aside, busy or not, a share of a GPU as that share: for a trainer from its
release to its end, for an engine or scorer from its opening to its closing. Not counted are the
short tasks that make start states and scorers, and what of a cluster nobody holds. Every run of the
sweep is a row of the table `runs`, so that the hours of all of them add up; a driver that is killed
loses those since it last wrote its row. The budget is of the sweep's name in one results folder.
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

LOOK = 0.5
"""Seconds between looks at what is held: a change counts from the next look on."""


@dataclass(frozen=True, slots=True)
class Amount:
    """CPUs and GPUs, or hours of them."""

    cpus: float = 0.0
    gpus: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.cpus + other.cpus, self.gpus + other.gpus)

    def times(self, factor: float) -> Amount:
        return Amount(self.cpus * factor, self.gpus * factor)

    def words(self) -> str:
        """Hours, for people."""
        gpus = f" and {self.gpus:.3g} GPU-hours" if self.gpus else ""
        return f"{self.cpus:.3g} CPU-hours{gpus}"


class Meter:
    """The hours of what is held, from looks at it: between two looks it is what the first saw."""

    def __init__(self, now: float) -> None:
        self.hours = Amount()
        self._held, self._at = Amount(), now

    def look(self, held: Amount, now: float) -> None:
        """That much is held from `now` on, in seconds of a clock that never goes back."""
        self.hours += self._held.times((now - self._at) / 3600)
        self._held, self._at = held, now


def held(needs: ResourceNeeds, trainers: int, replicas: Mapping[str, int]) -> Amount:
    """What so many trainers hold, and so many replicas of each engine and scorer, by its name."""
    worker = needs.worker
    total = Amount(worker.cpus, worker.gpus).times(trainers * needs.workers)
    for name, count in replicas.items():
        need = needs.engines.get(name, needs.scorer)
        total += Amount(need.cpus, need.gpus).times(count)
    return total


def used_up(limits: Resources, used: Amount) -> str | None:
    """Which of the limits is used up, in words; None while none is."""
    for field, unit, limit, hours in _each(limits, used):
        if hours >= limit:
            return f"the budget is used up: {hours:.4g} of {limit:g} {unit} ({field})"
    return None


def told(limits: Resources, used: Amount) -> str | None:
    """How much of each limit is used, in words; None without one."""
    parts = [
        f"{hours:.3g} of {limit:g} {unit} ({field})"
        for field, unit, limit, hours in _each(limits, used)
    ]
    return f"budget: used {', '.join(parts)}" if parts else None


def uncounted(limits: Resources, needs: ResourceNeeds) -> str | None:
    """What to say where GPU-hours are limited and nothing holds a GPU."""
    if limits.max_gpu_hours is None or needs.any_gpu:
        return None
    return (
        "resources.max_gpu_hours limits nothing here: no trainer, engine or scorer has a GPU; "
        "resources.max_cpu_hours would"
    )


def _each(limits: Resources, used: Amount) -> list[tuple[str, str, float, float]]:
    """(field, unit, limit, used) of every limit that is set."""
    both = (
        ("resources.max_gpu_hours", "GPU-hours", limits.max_gpu_hours, used.gpus),
        ("resources.max_cpu_hours", "CPU-hours", limits.max_cpu_hours, used.cpus),
    )
    return [(field, unit, limit, hours) for field, unit, limit, hours in both if limit is not None]


def hours_of(results: Results, sweep: str) -> Amount:
    """The hours that all recorded runs of the sweep held."""
    return sum((_hours(row) for row in _runs(results, sweep)), Amount())


class Budget:
    """The hours of one run, who holds `lease`, on top of those of the sweep's earlier runs."""

    def __init__(self, results: Results, lease: SweepLease, limits: Resources) -> None:
        self._results, self._lease, self._limits = results, lease, limits
        self._earlier = _runs(results, lease.sweep)
        self._before = sum(map(_hours, self._earlier), Amount())
        self._meter = Meter(time.monotonic())
        self.ended = used_up(limits, self.used)
        """Why the sweep must not go on, in words; None while it may."""

    @property
    def used(self) -> Amount:
        """The hours of all runs."""
        return self._before + self._meter.hours

    def told(self) -> str | None:
        """How much of each limit is used, in words; None without one."""
        return told(self._limits, self.used)

    async def count(self, holds: Callable[[], Amount], end: Callable[[str], None]) -> None:
        """Count what `holds` tells until cancelled; call `end` once if the budget is used up."""
        try:
            while True:
                self._meter.look(holds(), time.monotonic())
                if self.ended is None:
                    self.ended = used_up(self._limits, self.used)
                    if self.ended:
                        end(self.ended)
                await asyncio.sleep(LOOK)
        finally:
            self._meter.look(Amount(), time.monotonic())

    def record(self) -> None:
        """Write this run's row beside those of earlier ones; `ResultsError` where that fails."""
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
