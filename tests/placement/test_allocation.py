"""The division of a cluster that the driver runs: prices are those of the cluster's own GPUs."""

from __future__ import annotations

import pytest
from small_sweeps import COMMIT, Facts, plan_of, spec_of

from elastic_ray.placement import GPUS, SweepAllocation, allocate, parse_cluster
from elastic_ray.plan import ANSWERS, Plan

INFO = {"reviews": Facts()}


def large_plan() -> Plan:
    """Two ladders whose time is nearly all arithmetic: 7B parameters, a million examples."""
    model = {"name": "m", "hub": "some/m-7b", "revision": COMMIT}
    return plan_of(
        spec_of(
            models=[model],
            positive=[1_000_000],
            negative=[1_000_000],
            training={
                "global_batch": 1000,
                "precision": "bf16",
                "zero_stage": 3,
                "workers": 4,
            },
        )
    )


def on(cluster: str) -> SweepAllocation:
    plan = large_plan()
    return allocate(plan, INFO, parse_cluster(cluster), open_requests=plan.requests())


def test_ladders_on_h100s_are_priced_at_the_speed_of_h100s() -> None:
    a800, h100 = on("2x8xA800"), on("2x8xH100")
    assert a800.layout.needs == h100.layout.needs
    faster = GPUS["H100"].flops / GPUS["A800"].flops
    assert h100.rate.flops / a800.rate.flops == pytest.approx(faster)
    assert a800.ladder_seconds.keys() == h100.ladder_seconds.keys()
    for ladder, seconds in h100.ladder_seconds.items():
        assert a800.ladder_seconds[ladder] / seconds == pytest.approx(faster, rel=0.05)
    assert a800.gpu_hours and h100.gpu_hours
    assert a800.gpu_hours / h100.gpu_hours == pytest.approx(faster, rel=0.05)
    assert a800.request_seconds > h100.request_seconds
    assert a800.wall_clock.total > h100.wall_clock.total


def test_a_mixed_cluster_is_priced_at_the_speed_of_its_slowest_gpu() -> None:
    mixed, slow = on("1x8xH100+1x8xA800"), on("2x8xA800")
    assert mixed.rate == slow.rate


def test_the_driver_and_a_dry_run_divide_a_fresh_sweep_alike() -> None:
    plan, nodes = large_plan(), parse_cluster("2x8xH100")
    assert allocate(plan, INFO, nodes) == allocate(plan, INFO, nodes, open_requests=plan.requests())


def test_only_what_open_requests_need_gets_a_place() -> None:
    plan, nodes = large_plan(), parse_cluster("2x8xH100")
    assert allocate(plan, INFO, nodes).layout.scorer_places
    rest = [request for request in plan.requests() if request.kind != ANSWERS]
    nothing_to_score = allocate(plan, INFO, nodes, open_requests=rest)
    assert not nothing_to_score.layout.scorer_places
    assert nothing_to_score.ladder_seconds == allocate(plan, INFO, nodes).ladder_seconds
