"""How many workers a trainer has where the spec says `auto` or gives a range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sweeps import plan_of, spec_of

from elastic_ray.placement import Node, ladder_profile, parse_cluster, settle_worker_count
from elastic_ray.placement.layout import EngineMemory
from elastic_ray.placement.settings import ladder_kinds
from elastic_ray.placement.worker_count import LadderProfile
from elastic_ray.spec import Resources, Runtime, Serving, SpecError

NODES = parse_cluster("3x4xA100")


def workers(
    asked: object, ladders: LadderProfile, nodes: tuple[Node, ...], **resources: object
) -> int:
    """Return the number of workers that is chosen."""
    runtime = Runtime.model_validate({"workers": asked})
    engines = {"engine": EngineMemory()}
    found = settle_worker_count(
        runtime,
        ladders,
        nodes,
        Resources(**{"scorers": Serving(gpus=0.0), **resources}),
        engines,
        ["s"],
    ).workers
    assert isinstance(found, int)
    return found


def test_fewest_workers_that_hold_the_model_and_more_where_ladders_are_few() -> None:
    many = LadderProfile(20, 100, lambda n, offloading: 240 / n)
    assert workers("auto", many, NODES) == 4, "of 80 GB each"
    assert workers((1, 2), many, NODES) == 2
    offloaded = LadderProfile(20, 100, lambda n, offloading: (60 if offloading else 800) / n)
    assert workers("auto", offloaded, NODES) == 12, "more GPUs before the memory of CPUs"
    assert workers("auto", offloaded, NODES[:1]) == 1, "of 4 GPUs, which do not hold it otherwise"
    assert workers((3, 20), LadderProfile(20, 100, lambda n, offloading: 10.0), NODES) == 3
    assert workers(7, LadderProfile(5, 1, lambda n, offloading: None), NODES) == 7, (
        "a number is not changed"
    )
    assert workers("auto", LadderProfile(20, 100, lambda n, offloading: None), NODES) == 1
    cpus = parse_cluster("1x16cpu")
    assert workers("auto", LadderProfile(20, 2, lambda n, offloading: 1e9), cpus) > 4, (
        "two ladders, sixteen cores"
    )
    assert workers("auto", LadderProfile(3, 1, lambda n, offloading: None), cpus) == 3, (
        "of a global batch of three"
    )
    few = Resources(engines=Serving(replicas=1))
    assert (
        workers(
            "auto", LadderProfile(64, 1, lambda n, offloading: 10.0), NODES, engines=few.engines
        )
        == 11
    )


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 8), st.integers(0, 8), st.booleans())
def test_workers_stay_in_their_range(
    batch: int, at_once: int, low: int, more: int, auto: bool
) -> None:
    ladders = LadderProfile(batch, at_once, lambda n, offloading: 90.0 / n)
    if not auto and low > batch:
        with pytest.raises(SpecError, match=f"training.workers: found {low} to {low + more}; "):
            workers((low, low + more), ladders, NODES)
        return
    found = workers("auto" if auto else (low, low + more), ladders, NODES)
    assert 1 <= found <= batch
    assert auto or low <= found <= low + more


def test_the_ladder_profile_of_a_plan() -> None:
    plan = plan_of(spec_of(seeds=[0, 1, 2], positive=[8, 16], training={"global_batch": 8}))
    ladders = ladder_profile(plan, ladder_kinds(plan))
    assert ladders.batch == 8
    assert ladders.at_once == 6, "three seeds, from two sizes each"
    assert ladders.gib(1, True) is not None


@pytest.mark.parametrize("workers", [0, 1.5, "many", [2], [3, 2], [0, 2], True])
def test_invalid_values_for_workers_are_refused_in_one_line(workers: object) -> None:
    with pytest.raises(ValueError, match="must be a number from 1 to 4096, auto, or the") as error:
        spec_of(training={"workers": workers})
    assert str(error.value).count("must be a number") == 1
