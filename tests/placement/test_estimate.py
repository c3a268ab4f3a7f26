"""The estimate of a sweep: its numbers are those of the plan, the layout and the hardware."""

from __future__ import annotations

import pytest
from small_sweeps import COMMIT, Facts, plan_of, spec_of

from elastic_ray.placement import estimate, parse_cluster
from elastic_ray.spec import SpecError

INFO = {"reviews": Facts()}
PLAN, SHORT = (
    plan_of(
        spec_of(
            models=[{"name": "m", "hub": "some/m-1b", "revision": COMMIT}],
            positive=[100, 200],
            negative=[100],
            generation={"prompts": 10, "samples": 3},
            training={"global_batch": 10, "max_length": max_length},
        )
    )
    for max_length in (512, 16)
)


def test_sizes_are_those_of_the_plan() -> None:
    found = estimate(PLAN, task_info=INFO)
    assert (found.cells, found.states, found.ladders) == (5, 5, 3)
    # One run of 200 examples and two of 100, at 40 tokens per example; 5 states answer 10 x 3.
    assert found.tokens == 400 * 40 and found.answers == 5 * 30
    assert estimate(SHORT, task_info=INFO).tokens == 400 * 16  # the rest is cut off
    # Four trained states of 1B parameters in four bytes; the hub keeps the start.
    assert (found.checkpoint_bytes, found.kept_bytes) == (16 * 10**9, 0)
    # A point of 1B parameters is 12 GB: it pays after some hours, and these ladders take seconds.
    assert (found.point_bytes, found.largest_point_bytes) == (0, 12 * 10**9)
    assert set(found.reference_gpu_hours) == {"A800", "H100"}
    without_cluster = (found.gpu_hours, found.layout, found.wall_clock_hours, found.trainers)
    assert without_cluster == (None, None, None, 0)
    assert "GPU-hours: " in str(found) and "H100s" in str(found)


@pytest.mark.parametrize("cluster", ["4x8xH100", parse_cluster("4x8xH100")])
def test_a_cluster_adds_its_layout_and_its_hours(cluster: str) -> None:
    found = estimate(PLAN, cluster, task_info=INFO)
    assert found.layout and found.gpu_hours and found.wall_clock_hours
    assert found.gpu_hours == pytest.approx(sum(found.gpu_hours_by_part.values()))
    assert found.gpu_hours_by_part == found.reference_gpu_hours["H100"]
    used = {place.node for place in found.layout.allocations()}
    assert found.trainers and found.engines and found.scorers and len(used) == 4
    assert "on 4 nodes of 8 H100 and 64 CPUs: " in str(found)


def test_long_ladders_write_resume_points() -> None:
    """On one core: 2e5 examples of 43 padded tokens, 6e9 FLOP each, at 3e10 FLOP/s: 1.7e6 seconds.

    A point takes 12e9 / 2e8 = 60 s, so one is due every sqrt(2 x 86,400 x 60) = 3,220 s.
    """
    spec = PLAN.spec.model_copy(update={"positive": (200_000,), "negative": ()})
    found = estimate(plan_of(spec), "1x8cpu", task_info=INFO)
    assert found.point_bytes == pytest.approx(12e9 * 1.73e6 / 3220, rel=0.01)


def test_a_cluster_without_gpus_has_no_gpu_hours() -> None:
    found = estimate(PLAN, "2x64cpu", task_info=INFO)
    assert found.gpu_hours is None and not found.gpu_hours_by_part
    assert found.wall_clock_hours and "GPU-hours" not in str(found)


def test_a_sweep_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(SpecError, match="resources: 1 trainer"):
        estimate(PLAN, "1x1cpu", task_info=INFO)
    with pytest.raises(SpecError, match="--cluster: found 'many'"):
        estimate(PLAN, "many", task_info=INFO)
