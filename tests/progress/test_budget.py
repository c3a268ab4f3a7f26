"""Reserved resources are counted over all runs of a sweep, and a budget stops it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sweeps import plan_of, spec_of

from elastic_ray.placement import ResourceNeeds
from elastic_ray.placement.bin_packing import Bundle
from elastic_ray.progress.budget import (
    Amount,
    Budget,
    Meter,
    exhausted_limit,
    gpu_limit_notice,
    recorded_hours,
    reserved_resources,
)
from elastic_ray.results.leases.sweep_lease import SweepLease
from elastic_ray.results.store import Results
from elastic_ray.spec import Resources

AMOUNTS = st.builds(
    Amount, st.integers(0, 64), st.integers(0, 8).map(lambda quarters: quarters / 4)
)
SAMPLES = st.lists(st.tuples(st.floats(0, 1e6), AMOUNTS), max_size=20)


def close(amount: Amount) -> Amount:
    return Amount(pytest.approx(amount.cpus), pytest.approx(amount.gpus))  # type: ignore[arg-type]


def metered(samples: list[tuple[float, Amount]], began: float = 0.0) -> Amount:
    meter, now = Meter(began), began
    for passed, amount in samples:
        now += passed
        meter.sample(amount, now)
    return meter.hours


@given(SAMPLES)
def test_hours_are_what_was_reserved_from_sample_to_sample(
    samples: list[tuple[float, Amount]],
) -> None:
    before = [Amount(), *(amount for _, amount in samples)]
    parts = [
        amount.times(passed / 3600) for amount, (passed, _) in zip(before, samples, strict=False)
    ]
    assert metered(samples) == close(sum(parts, Amount()))


@given(SAMPLES, st.floats(0, 1e9))
def test_hours_depend_on_no_clocks_beginning(
    samples: list[tuple[float, Amount]], at: float
) -> None:
    one, other = metered(samples), metered(samples, at)
    assert other.cpus == pytest.approx(one.cpus, rel=1e-4, abs=1e-4)
    assert other.gpus == pytest.approx(one.gpus, rel=1e-4, abs=1e-4)


@given(AMOUNTS, st.lists(st.floats(0, 1e5), min_size=1, max_size=20))
def test_the_sampling_rate_changes_nothing(amount: Amount, pauses: list[float]) -> None:
    once = metered([(0, amount), (sum(pauses), amount)])
    assert metered([(0, amount), *((pause, amount) for pause in pauses)]) == close(once)


@given(SAMPLES)
def test_hours_only_grow(samples: list[tuple[float, Amount]]) -> None:
    for count in range(len(samples)):
        before, after = metered(samples[:count]), metered(samples[: count + 1])
        assert after.cpus >= before.cpus and after.gpus >= before.gpus


NEEDS = ResourceNeeds(
    Bundle(4.0, 1.0), 2, {"small": Bundle(1.0, 0.25), "large": Bundle(1.0, 2.0)}, Bundle(2.0)
)


def test_trainers_engines_and_scorers_reserve_what_each_of_them_needs() -> None:
    assert reserved_resources(NEEDS, 0, {}) == Amount()
    assert reserved_resources(NEEDS, 3, {}) == Amount(24, 6)
    assert reserved_resources(NEEDS, 0, {"small": 3, "large": 1}) == Amount(4, 2.75)
    assert reserved_resources(NEEDS, 1, {"small": 1, "sentiment-0123": 2}) == Amount(
        8 + 1 + 4, 2.25
    )


def test_a_limit_is_used_up_when_it_is_reached() -> None:
    limits = Resources(max_gpu_hours=10, max_cpu_hours=100)
    assert exhausted_limit(Resources(), Amount(1e9, 1e9)) is None
    assert exhausted_limit(limits, Amount(99.9, 9.9)) is None
    found = exhausted_limit(limits, Amount(5, 10.25))
    assert found == "the budget is used up: 10.25 of 10 GPU-hours (resources.max_gpu_hours)"
    assert "100 of 100 CPU-hours" in (exhausted_limit(limits, Amount(100, 5)) or "")


def test_a_limit_without_effect_is_reported() -> None:
    bare = ResourceNeeds(Bundle(1.0), 1, {"m": Bundle(0.25)}, Bundle(0.25))
    assert gpu_limit_notice(Resources(), bare) is None
    assert gpu_limit_notice(Resources(max_gpu_hours=1), NEEDS) is None
    assert "has no effect" in (gpu_limit_notice(Resources(max_gpu_hours=1), bare) or "")


def test_a_budget_changes_no_state_and_no_request() -> None:
    one, other = (
        plan_of(spec_of(resources=resources)) for resources in ({}, {"max_gpu_hours": 1.5})
    )
    assert one.states == other.states and one.cells == other.cells and one.probes == other.probes


def lease(run: str) -> SweepLease:
    now = time.time()
    return SweepLease("small", run, "host", 1, "place", "born", now, now, "")


async def use(budget: Budget, amount: Amount) -> str:
    """Reserve an amount until the budget is used up; return the message."""
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    counting = asyncio.ensure_future(budget.count(lambda: amount, ended.set_result))
    try:
        return await ended
    finally:
        counting.cancel()


def test_a_budget_is_of_all_runs_together(tmp_path: Path) -> None:
    results, limits = Results(tmp_path), Resources(max_gpu_hours=1)
    first = Budget(results, lease("a"), limits)
    assert first.exhausted is None and first.used == Amount()
    first.record()
    assert not results.has("runs", sweep="small"), "it held nothing"
    message = asyncio.run(use(first, Amount(3e5, 1e5)))
    assert message == first.exhausted and "of 1 GPU-hours" in message
    first.record()
    first.record()
    used = recorded_hours(results, "small")
    assert used == first.used and used.gpus >= 1
    assert used.cpus == pytest.approx(3 * used.gpus)
    assert recorded_hours(results, "another") == Amount()

    again = Budget(results, lease("b"), limits)
    assert again.exhausted is not None and again.used == used
    more = Budget(results, lease("c"), Resources(max_gpu_hours=used.gpus + 1))
    assert more.exhausted is None
    asyncio.run(use(more, Amount(0, 1e5)))
    more.record()
    after = recorded_hours(results, "small")
    assert after.gpus >= used.gpus + 1 and after.cpus == used.cpus
    rows = results.query("FROM runs ORDER BY started_at").to_pylist()
    assert [row["run"] for row in rows] == ["a", "c"]
    assert [row["gpu_hours"] for row in rows] == [used.gpus, pytest.approx(after.gpus - used.gpus)]
