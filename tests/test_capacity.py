"""What runs side by side: everything that a layout promises fits the cluster at the same time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_ray.capacity import DRIVER_CPUS, PREPARE_CPUS, Layout, lay_out
from elastic_ray.spec import Resources, Runtime, Serving, SpecError

ROUNDING = 1e-6

runtimes = st.builds(
    Runtime,
    workers=st.integers(1, 4),
    cpus_per_worker=st.sampled_from([0.5, 1.0, 4.0]),
    gpus_per_worker=st.sampled_from([None, 0.0, 0.5, 1.0]),
)
servings = st.builds(
    Serving,
    replicas=st.sampled_from([None, 1, 3]),
    cpus=st.sampled_from([None, 0.25, 2.0]),
    gpus=st.sampled_from([None, 0.0, 0.5, 1.0]),
)
asked = st.builds(
    Resources, trainers=st.sampled_from([None, 1, 3]), engines=servings, scorers=servings
)
clusters = st.tuples(
    st.sampled_from([2.0, 4.0, 8.0, 16.0, 96.0]), st.sampled_from([0.0, 1.0, 2.0, 8.0])
)


@given(clusters, runtimes, asked, st.integers(0, 5), st.integers(0, 2))
@settings(max_examples=300, deadline=None)
def test_a_layout_never_exceeds_the_cluster(
    cluster: tuple[float, float], runtime: Runtime, resources: Resources, groups: int, scorers: int
) -> None:
    cpus, gpus = cluster
    try:
        layout = lay_out(cpus, gpus, runtime, resources, groups, scorers)
    except SpecError as e:
        assert str(e).startswith("resources")
        return
    used = layout.used(max(scorers, 1))
    assert used[0] <= cpus + ROUNDING and used[1] <= gpus + ROUNDING
    assert layout.trainers >= 1 and layout.replicas >= 1 and layout.scorer_replicas >= 1
    assert 1 <= layout.open_engines <= max(groups, 1)
    assert layout.workers == runtime.workers
    assert layout.cpus_per_worker == runtime.cpus_per_worker


@given(clusters, runtimes, asked, st.integers(1, 5), st.integers(1, 2))
@settings(max_examples=300, deadline=None)
def test_what_is_asked_for_is_given_or_refused(
    cluster: tuple[float, float], runtime: Runtime, resources: Resources, groups: int, scorers: int
) -> None:
    try:
        layout = lay_out(*cluster, runtime, resources, groups, scorers)
    except SpecError:
        return
    engines, judges = resources.engines, resources.scorers
    given_or = [
        (resources.trainers, layout.trainers),
        (engines.replicas, layout.replicas),
        (engines.cpus, layout.engine_cpus),
        (engines.gpus, layout.engine_gpus),
        (judges.replicas, layout.scorer_replicas),
        (judges.cpus, layout.scorer_cpus),
        (judges.gpus, layout.scorer_gpus),
        (runtime.gpus_per_worker, layout.gpus_per_worker),
    ]
    assert all(wanted in (None, found) for wanted, found in given_or)


def fits(layout: Layout, cpus: float, gpus: float, trainers: int) -> bool:
    """Whether the layout with that many trainers would fit."""
    more = trainers - layout.trainers
    used = layout.used(1)
    each = layout.workers * layout.cpus_per_worker + DRIVER_CPUS
    return (
        used[0] + more * each <= cpus + ROUNDING
        and used[1] + more * layout.workers * layout.gpus_per_worker <= gpus + ROUNDING
    )


@given(clusters, runtimes, servings, servings, st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_no_room_for_a_trainer_is_left(
    cluster: tuple[float, float], runtime: Runtime, engines: Serving, scorers: Serving, groups: int
) -> None:
    try:
        layout = lay_out(
            *cluster, runtime, Resources(engines=engines, scorers=scorers), groups, scorers=1
        )
    except SpecError:
        return
    assert not fits(layout, *cluster, layout.trainers + 1)


@given(clusters, runtimes, asked, st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_trainers_that_are_asked_for_are_refused_only_where_they_cannot_be(
    cluster: tuple[float, float], runtime: Runtime, resources: Resources, groups: int
) -> None:
    """Engines that could do with fewer do not take a trainer's room."""
    one = resources.model_copy(update={"trainers": 1})
    try:
        least = lay_out(*cluster, runtime, one, groups=1, scorers=1)
    except SpecError:
        return
    replicas = resources.engines.replicas or 1
    cpus = cluster[0] - replicas * least.engine_cpus - least.scorer_replicas * least.scorer_cpus
    gpus = cluster[1] - replicas * least.engine_gpus - least.scorer_replicas * least.scorer_gpus
    wanted = resources.trainers or 1
    room = wanted * (runtime.workers * runtime.cpus_per_worker + DRIVER_CPUS) + PREPARE_CPUS
    possible = room <= cpus + ROUNDING and (
        wanted * runtime.workers * least.gpus_per_worker <= gpus + ROUNDING
    )
    try:
        lay_out(*cluster, runtime, resources, groups, scorers=1)
    except SpecError:
        assert not possible
    else:
        assert possible


@pytest.mark.parametrize("groups", [1, 2, 7])
def test_two_cpus_are_enough(groups: int) -> None:
    layout = lay_out(2, 0, Runtime(), Resources(), groups, scorers=1)
    assert layout.trainers == 1 and layout.gpus_per_worker == 0
    assert layout.open_engines == min(groups, 2), "the others wait for their turn"
    assert layout.used(1)[0] <= 2


def test_many_trainers_get_more_than_one_replica() -> None:
    layout = lay_out(64, 0, Runtime(), Resources(), groups=1, scorers=1)
    assert layout.trainers <= 4 * layout.replicas
    assert layout.trainers + layout.replicas > 60


def test_gpus_are_shared_out_by_default() -> None:
    layout = lay_out(96, 8, Runtime(), Resources(), groups=2, scorers=1)
    assert layout.gpus_per_worker == layout.engine_gpus == 1
    assert layout.trainers + layout.open_engines * layout.replicas == 8
    assert layout.open_engines == 2
    wide = Resources(engines=Serving(tensor_parallel=4))
    assert lay_out(96, 8, Runtime(), wide, groups=1, scorers=1).engine_gpus == 4


@pytest.mark.parametrize(
    ("cluster", "runtime", "resources", "message"),
    [
        (
            (1.0, 0.0),
            Runtime(),
            Resources(),
            "resources: one trainer, 1 engine(s) and 1 scorer(s) need 1.61 CPUs and 0 GPUs; "
            "the cluster has 1 and 0 (see training.workers, ",
        ),
        (
            (8.0, 1.0),
            Runtime(),
            Resources(),
            "resources: one trainer, 1 engine(s) and 1 scorer(s) need 1.61 CPUs and 2 GPUs; "
            "the cluster has 8 and 1 (see training.workers, cpus_per_worker, gpus_per_worker, "
            "resources.engines)",
        ),
        (
            (8.0, 0.0),
            Runtime(),
            Resources(trainers=9),
            "resources.trainers: found 9; beside 1 engine(s) and 1 scorer(s) the cluster has room "
            "for 7",
        ),
        (
            (8.0, 0.0),
            Runtime(),
            Resources(engines=Serving(tensor_parallel=2)),
            "resources.engines.gpus: found 0; tensor_parallel 2 needs that many whole GPUs",
        ),
        (
            (8.0, 8.0),
            Runtime(),
            Resources(engines=Serving(tensor_parallel=2, gpus=1.0)),
            "resources.engines.gpus: found 1; tensor_parallel 2 needs",
        ),
    ],
)
def test_what_has_no_room_is_refused_by_field(
    cluster: tuple[float, float], runtime: Runtime, resources: Resources, message: str
) -> None:
    with pytest.raises(SpecError) as error:
        lay_out(*cluster, runtime, resources, groups=1, scorers=1)
    assert message in str(error.value)
