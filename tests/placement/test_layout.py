"""Layouts: everything that a layout promises fits on the nodes at the same time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_ray.placement import Layout, Node, adapt, lay_out, parse_cluster
from elastic_ray.placement.bin_packing import ROUNDING, Bundle, FreeResources
from elastic_ray.placement.layout import EngineMemory, Workload
from elastic_ray.placement.requirements import SCORER_GPUS
from elastic_ray.spec import Resources, Runtime, Serving, SpecError

runtimes = st.builds(
    Runtime,
    workers=st.integers(1, 4),
    cpus_per_worker=st.sampled_from([0.5, 1.0, 4.0]),
    gpus_per_worker=st.sampled_from([None, 0.0, 0.5, 1.0, 2.0]),
)
servings = st.builds(
    Serving,
    replicas=st.sampled_from([None, 1, 3]),
    cpus=st.sampled_from([None, 0.25, 2.0]),
    gpus=st.sampled_from([None, 0.0, 0.5, 1.0, 2.0]),
)
asked = st.builds(
    Resources, trainers=st.sampled_from([None, 1, 3]), engines=servings, scorers=servings
)
node_kinds = st.sampled_from(
    [(2.0, 0, None), (16.0, 0, None), (8.0, 1, "T4"), (32.0, 4, "A100"), (64.0, 8, "H100")]
)
clusters = st.lists(node_kinds, min_size=1, max_size=5).map(
    lambda kinds: tuple(Node(f"n{i}", *kind) for i, kind in enumerate(kinds))
)
models = st.sampled_from(
    [EngineMemory(), EngineMemory(3.0, 6.0), EngineMemory(15.0, 31.0), EngineMemory(28.0, 52.0)]
)
engines_of = st.lists(models, min_size=1, max_size=4).map(
    lambda kinds: {f"engine {i}": kind for i, kind in enumerate(kinds)}
)
works = st.sampled_from([None, Workload(1000.0, 10.0), Workload(10.0, 1000.0)])
many = settings(max_examples=200, deadline=None)


def one(cpus: float, gpus: int = 0) -> list[Node]:
    """Return a cluster of one node."""
    return [Node("here", cpus, gpus, "A100" if gpus else None)]


CPU_SCORERS = Resources(scorers=Serving(gpus=0.0))
"""Scorers without a GPU, for tests that count the GPUs of trainers and engines."""


def unknown(count: int) -> dict[str, EngineMemory]:
    """Return that many engine groups of unknown size."""
    return {f"engine {i}": EngineMemory() for i in range(count)}


def gpus_of(layout: Layout) -> dict[str, float]:
    """Return the GPUs of a replica by engine group."""
    return {kind: need.gpus for kind, need in layout.needs.engines.items()}


def check(layout: Layout) -> None:
    """Assert that no node and no GPU is used beyond its capacity."""
    cpus: dict[str, float] = defaultdict(float)
    shares: dict[tuple[str, int], float] = defaultdict(float)
    for taken in layout.allocations():
        cpus[taken.node] += taken.cpus
        for number, share in taken.gpus:
            shares[taken.node, number] += share
    has = {node.name: node for node in layout.nodes}
    assert all(cpus[name] <= has[name].cpus + ROUNDING for name in cpus)
    assert all(share <= 1 + ROUNDING for share in shares.values())
    assert all(number < has[name].gpus for name, number in shares)


@given(clusters, runtimes, asked, engines_of, st.integers(0, 2), works)
@many
def test_a_layout_never_exceeds_a_node(
    nodes: Sequence[Node],
    runtime: Runtime,
    resources: Resources,
    kinds: dict[str, EngineMemory],
    scorers: int,
    work: Workload | None,
) -> None:
    names = [f"scorer {i}" for i in range(scorers)]
    try:
        layout = lay_out(nodes, runtime, resources, kinds, names, work)
    except SpecError as e:
        assert str(e).startswith(("resources", "training.gpus_per_worker"))
        assert "\n" not in str(e)
        return
    check(layout)
    assert layout.trainers >= 1 and 1 <= layout.open_groups <= len(kinds)
    for slot in layout.trainer_slots:
        assert [w.cpus for w in slot.workers] == [runtime.cpus_per_worker] * runtime.workers
        assert all(sum(s for _, s in w.gpus) == layout.needs.worker.gpus for w in slot.workers)
    for slot in layout.engine_slots:
        assert len(slot.replicas) == layout.replicas
        for place in slot.replicas:  # whoever opens here has what it needs, on one node
            most = max(layout.needs.engines[kind].gpus for kind in slot.groups)
            assert sum(share for _, share in place.gpus) == pytest.approx(most)
            assert len(place.gpus) in (0, 1) or {share for _, share in place.gpus} == {1.0}
    own = [slot.groups for slot in layout.engine_slots if len(slot.groups) == 1]
    assert sorted(own) == sorted((kind,) for kind in kinds) or all(
        set(slot.groups) == set(kinds) for slot in layout.engine_slots
    )
    assert set(layout.scorer_places) == set(names)


@given(clusters, runtimes, asked, engines_of, st.integers(1, 2))
@many
def test_requested_numbers_are_met_or_refused(
    nodes: Sequence[Node],
    runtime: Runtime,
    resources: Resources,
    kinds: dict[str, EngineMemory],
    scorers: int,
) -> None:
    try:
        layout = lay_out(nodes, runtime, resources, kinds, list("ab"[:scorers]))
    except SpecError:
        return
    engines, judges = resources.engines, resources.scorers
    given_or = [
        (resources.trainers, layout.trainers),
        (engines.replicas, layout.replicas),
        *((engines.cpus, need.cpus) for need in layout.needs.engines.values()),
        *((engines.gpus, need.gpus) for need in layout.needs.engines.values()),
        (judges.replicas, layout.scorer_replicas),
        (judges.cpus, layout.needs.scorer.cpus),
        (judges.gpus, layout.needs.scorer.gpus),
        (runtime.gpus_per_worker, layout.needs.worker.gpus),
    ]
    assert all(wanted in (None, found) for wanted, found in given_or)


@given(clusters, runtimes, servings, servings, engines_of)
@many
def test_no_resources_for_another_trainer_are_left(
    nodes: Sequence[Node],
    runtime: Runtime,
    engines: Serving,
    scorers: Serving,
    kinds: dict[str, EngineMemory],
) -> None:
    resources = Resources(engines=engines, scorers=scorers)
    try:
        layout = lay_out(nodes, runtime, resources, kinds, ["scorer"])
    except SpecError:
        return
    room = FreeResources(nodes)
    room.reclaim(layout.allocations())
    assert room.allocate(layout.needs.worker, runtime.workers) is None


@given(clusters, runtimes, asked, engines_of, node_kinds, works)
@many
def test_what_fits_still_fits_when_a_node_joins(
    nodes: Sequence[Node],
    runtime: Runtime,
    resources: Resources,
    kinds: dict[str, EngineMemory],
    more: tuple[float, int, str | None],
    work: Workload | None,
) -> None:
    """The new node is like one of the others: another GPU type may need engines of another size."""
    same = [node for node in nodes if (node.cpus, node.gpus, node.gpu_type) == more]
    if not same:
        return
    try:
        before = lay_out(nodes, runtime, resources, kinds, ["scorer"], work)
    except SpecError:
        return
    # More than eight CPUs in all, and engines get a whole one each.
    if sum(node.cpus for node in nodes) <= 8:
        return
    after = lay_out((*nodes, Node("new", *more)), runtime, resources, kinds, ["scorer"], work)
    check(after)
    assert after.trainers + after.replicas * after.open_groups >= 2
    if resources.engines.replicas and len(kinds) == 1:
        assert after.trainers >= before.trainers, "nothing else can take what is new"


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("trainers", [1, 2, 3])
@pytest.mark.parametrize("cpus", [2.0, 4.0, 8.0, 12.0])
def test_requested_trainers_are_refused_only_where_they_do_not_fit(
    cpus: float, trainers: int, workers: int
) -> None:
    """Engines that can run with fewer replicas do not take a trainer's resources."""
    runtime, resources = Runtime(workers=workers), Resources(trainers=trainers)
    engine = 0.25 if cpus <= 8 else 1.0
    possible = trainers * workers + 0.1 + 2 * engine <= cpus
    try:
        layout = lay_out(one(cpus), runtime, resources, unknown(3), ["scorer"])
    except SpecError:
        assert not possible
    else:
        assert possible and layout.trainers == trainers


# (CPUs, workers, CPUs per worker, engine groups, scorers): (trainers, engine slots, replicas,
# CPUs per engine, all CPUs used). Sweeps on laptops were measured with these layouts.
ON_ONE_MACHINE = [
    ((2, 1, 1.0, 1, 1), (1, 1, 1, 0.25, 1.6)),
    ((2, 1, 1.0, 2, 1), (1, 2, 1, 0.25, 1.85)),
    ((2, 1, 1.0, 7, 2), (1, 1, 1, 0.25, 1.85)),
    ((2, 1, 1.3, 2, 1), (1, 1, 1, 0.25, 1.9)),
    ((4, 1, 1.0, 1, 1), (3, 1, 1, 0.25, 3.6)),
    ((4, 1, 1.0, 3, 1), (2, 3, 1, 0.25, 3.1)),
    ((8, 1, 1.0, 2, 2), (6, 2, 1, 0.25, 7.1)),
    ((8, 2, 1.0, 2, 1), (3, 2, 1, 0.25, 6.85)),
    ((16, 1, 1.0, 1, 1), (11, 1, 3, 1.0, 15.1)),
    ((16, 1, 1.0, 3, 2), (10, 3, 1, 1.0, 15.1)),
    ((64, 1, 1.0, 1, 1), (49, 1, 13, 1.0, 63.1)),
    ((64, 4, 1.0, 5, 2), (14, 5, 1, 1.0, 63.1)),
    ((96, 1, 1.0, 2, 1), (74, 2, 10, 1.0, 95.1)),
]


@pytest.mark.parametrize(("asked", "given"), ON_ONE_MACHINE)
def test_one_machine_without_a_gpu(asked: tuple[Any, ...], given: tuple[Any, ...]) -> None:
    cpus, workers, each, kinds, scorers = asked
    layout = lay_out(
        one(cpus),
        Runtime(workers=workers, cpus_per_worker=each),
        Resources(),
        unknown(kinds),
        [f"scorer {i}" for i in range(scorers)],
        Workload(1e6, 1.0),  # estimates are for GPUs
    )
    taken = round(sum(t.cpus for t in layout.allocations()), 4)
    engine = next(iter(layout.needs.engines.values()))
    found = (layout.trainers, layout.open_groups, layout.replicas, engine.cpus, taken)
    assert found == given


def test_a_trainer_is_on_one_node_where_it_fits() -> None:
    layout = lay_out(parse_cluster("3x8xA100"), Runtime(workers=4), CPU_SCORERS, unknown(1), ["s"])
    for slot in layout.trainer_slots:
        assert len({worker.node for worker in slot.workers}) == 1
    assert layout.trainers == 5
    assert layout.replicas == 4, "the GPUs that no trainer can use"


def test_a_trainer_is_spread_over_nodes_only_if_it_must_be() -> None:
    layout = lay_out(parse_cluster("9x1xA100"), Runtime(workers=4), CPU_SCORERS, unknown(1), ["s"])
    assert layout.trainers == 2
    assert [len({worker.node for worker in slot.workers}) for slot in layout.trainer_slots] == [
        4,
        4,
    ]


def test_resources_left_on_several_nodes_are_used_for_a_requested_trainer() -> None:
    nodes, runtime = parse_cluster("2x4xA100"), Runtime(workers=3)
    engines = Serving(gpus=1.0, replicas=2)
    asked = Resources(trainers=2, engines=engines, scorers=CPU_SCORERS.scorers)
    assert lay_out(nodes, runtime, asked, unknown(1), ["s"]).trainers == 2
    runtime = Runtime(workers=2)
    asked = Resources(trainers=3, engines=engines, scorers=CPU_SCORERS.scorers)
    halves = lay_out(nodes, runtime, asked, unknown(1), ["s"]).trainer_slots
    assert len(halves) == 3


def test_engines_get_as_few_gpus_as_hold_them() -> None:
    kinds = {
        "small": EngineMemory(3, 6),
        "middle": EngineMemory(15, 31),
        "large": EngineMemory(130, 200),
    }
    layout = lay_out(parse_cluster("2x8xA100"), Runtime(), Resources(), kinds, ["s"])
    assert gpus_of(layout) == {"small": 0.25, "middle": 0.5, "large": 4.0}
    assert [layout.tensor_parallel(kind) for kind in kinds] == [1, 1, 4]
    for slot in layout.engine_slots:
        for place in slot.replicas:
            assert slot.groups == ("large",) or len(place.gpus) == 1
    smaller = lay_out(
        parse_cluster("2x8xL4"), Runtime(), Resources(), {"m": EngineMemory(15, 31)}, ["s"]
    )
    assert gpus_of(smaller) == {"m": 2.0}
    unknown_gpus = [Node("n", 64, 8, "Something")]
    assert gpus_of(lay_out(unknown_gpus, Runtime(), Resources(), kinds, ["s"])) == {
        "small": 1.0,
        "middle": 1.0,
        "large": 1.0,
    }


def test_a_large_engine_is_never_split_over_nodes() -> None:
    kinds = {"large": EngineMemory(100, 130)}
    layout = lay_out(parse_cluster("5x2xA100"), Runtime(), Resources(), kinds, ["s"])
    assert gpus_of(layout) == {"large": 2.0}
    assert all(len(place.gpus) == 2 for place in layout.engine_slots[0].replicas)
    with pytest.raises(SpecError, match=r"weights of large take about 100 GiB; 1 GPU\(s\) of a"):
        lay_out(parse_cluster("5x1xA100"), Runtime(), Resources(), kinds, ["s"])


def test_the_side_with_more_work_gets_more_gpus() -> None:
    nodes, kinds = parse_cluster("4x8xA100"), {"m": EngineMemory(40, 60)}

    def gpus(work: Workload) -> tuple[int, int]:
        layout = lay_out(nodes, Runtime(), CPU_SCORERS, kinds, ["s"], work)
        return layout.trainers, layout.replicas

    training, answering = gpus(Workload(3000.0, 100.0)), gpus(Workload(100.0, 3000.0))
    assert training[0] > 28 and training[1] <= 3
    assert answering[0] <= 3 and answering[1] > 28
    assert gpus(Workload(100.0, 100.0)) == (16, 16)


def test_processes_without_a_gpu_go_to_nodes_without_one() -> None:
    layout = lay_out(parse_cluster("1x8xA100+1x16cpu"), Runtime(), CPU_SCORERS, unknown(1), ["s"])
    small = layout.nodes[1].name
    assert {place.node for place in layout.scorer_places["s"]} == {small}
    assert layout.setup and layout.setup.node == small


def test_a_scorer_has_a_share_of_a_gpu_where_nodes_have_gpus() -> None:
    def scorer(cluster: str, **scorers: float) -> float:
        asked = Resources(scorers=Serving(**scorers))
        layout = lay_out(parse_cluster(cluster), Runtime(), asked, unknown(1), ["s"])
        return layout.needs.scorer.gpus

    assert scorer("1x8xA100") == scorer("1x8xA100+1x16cpu") == SCORER_GPUS
    assert scorer("1x8xA100", gpus=1.0) == 1.0
    assert scorer("1x8xA100", gpus=0.0) == scorer("1x16cpu") == 0.0


@pytest.mark.parametrize("groups", [1, 2, 7])
def test_two_cpus_are_enough(groups: int) -> None:
    layout = lay_out(one(2), Runtime(), Resources(), unknown(groups), ["s"])
    assert layout.trainers == 1 and layout.needs.worker.gpus == 0
    assert layout.open_groups == min(groups, 2), "the other groups wait for a slot"


def test_gpus_are_divided_by_default() -> None:
    layout = lay_out(one(96, 8), Runtime(), CPU_SCORERS, unknown(2), ["s"])
    assert layout.needs.worker.gpus == 1 and set(gpus_of(layout).values()) == {1.0}
    assert layout.trainers + layout.open_groups * layout.replicas == 8
    assert layout.open_groups == 2
    wide = Resources(engines=Serving(tensor_parallel=4))
    layout = lay_out(one(96, 8), Runtime(), wide, unknown(1), ["s"])
    assert gpus_of(layout) == {"engine 0": 4.0} and layout.tensor_parallel("engine 0") == 4


TOO_LITTLE = "(see training.workers, cpus_per_worker, gpus_per_worker, resources.engines)"


@pytest.mark.parametrize(
    ("nodes", "runtime", "resources", "message"),
    [
        (
            one(1),
            Runtime(),
            CPU_SCORERS,
            "resources: 1 trainer (1 x 1 CPU), 1 engine(s) of 0.25 CPU and 1 scorer(s) of 0.25 CPU "
            "need 1.60 CPUs and 0 GPUs; "
            f"the cluster has 1 and 0 {TOO_LITTLE}",
        ),
        (
            one(8, 1),
            Runtime(),
            CPU_SCORERS,
            "resources: 1 trainer (1 x 1 CPU and 1 GPU), 1 engine(s) of 0.25 CPU and 1 GPU and 1 "
            "scorer(s) of 0.25 CPU need 1.60 CPUs and 2 GPUs; "
            f"the cluster has 8 and 1 {TOO_LITTLE}",
        ),
        (
            one(8),
            Runtime(),
            Resources(trainers=9),
            "resources.trainers: found 9; in addition to 1 engine(s) and 1 scorer(s), the cluster "
            "has room for 7",
        ),
        (
            one(8),
            Runtime(),
            Resources(engines=Serving(tensor_parallel=2), scorers=CPU_SCORERS.scorers),
            "resources.engines.gpus: found 0; tensor_parallel 2 needs that many whole GPUs",
        ),
        (
            one(8, 8),
            Runtime(),
            Resources(engines=Serving(tensor_parallel=2, gpus=1.0)),
            "resources.engines.gpus: found 1; tensor_parallel 2 needs",
        ),
        (
            parse_cluster("4x2xA100"),
            Runtime(),
            Resources(engines=Serving(tensor_parallel=4), scorers=CPU_SCORERS.scorers),
            "resources: 1 trainer (1 x 1 CPU and 1 GPU), 1 engine(s) of 1 CPU and 4 GPU and 1 "
            "scorer(s) of 1 CPU do not fit at the same time on 4 nodes of 2 A100 and 16 CPUs "
            f"{TOO_LITTLE}",
        ),
        (
            one(8, 2),
            Runtime(workers=2, gpus_per_worker=0.5),
            CPU_SCORERS,
            "training.gpus_per_worker: found 0.5 with 2 workers; workers that "
            "communicate over NCCL need",
        ),
        (
            one(8, 8),
            Runtime(),
            Resources(scorers=Serving(gpus=1.5)),
            "resources.scorers.gpus: found 1.5; above 1, it must be a whole number",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_field(
    nodes: Sequence[Node], runtime: Runtime, resources: Resources, message: str
) -> None:
    with pytest.raises(SpecError) as error:
        lay_out(nodes, runtime, resources, unknown(1), ["s"])
    assert message in str(error.value)


@given(clusters, runtimes, asked, engines_of, works, st.data())
@many
def test_processes_on_remaining_nodes_stay_in_place(
    nodes: Sequence[Node],
    runtime: Runtime,
    resources: Resources,
    kinds: dict[str, EngineMemory],
    work: Workload | None,
    data: st.DataObject,
) -> None:
    """Nodes leave and join, one change after another; no layout exceeds a node."""
    try:
        layout = lay_out(nodes, runtime, resources, kinds, ["scorer"], work)
    except SpecError:
        return
    for step in range(data.draw(st.integers(1, 3))):
        went = set(data.draw(st.sets(st.sampled_from([n.name for n in nodes]))))
        came = data.draw(st.lists(node_kinds, max_size=2))
        nodes = [node for node in nodes if node.name not in went]
        nodes += [Node(f"new {step} {i}", *kind) for i, kind in enumerate(came)]
        before, layout = layout, adapt(layout, nodes, resources, work)
        check(layout)
        there = {node.name for node in nodes}
        assert {t.node for t in layout.allocations()} <= there
        for old, new in zip(before.engine_slots, layout.engine_slots, strict=False):
            assert old.groups == new.groups
            stayed = [t for t in old.replicas if t.node in there]
            assert list(new.replicas[: len(stayed)]) == stayed
        assert len(layout.engine_slots) >= len(before.engine_slots)
        for slot in layout.trainer_slots:
            assert len(slot.workers) == runtime.workers
        room = FreeResources(layout.nodes)
        room.reclaim(layout.allocations())
        for slot in layout.engine_slots:
            if not slot.replicas and layout.trainers:
                most = max(layout.needs.engines[kind].gpus for kind in slot.groups)
                assert (
                    room.allocate(Bundle(layout.needs.engines[slot.groups[0]].cpus, most)) is None
                )
        if not nodes:
            return


def test_new_nodes_are_used_and_departed_nodes_are_not() -> None:
    nodes, kinds = parse_cluster("3x4xA100"), {"m": EngineMemory(15, 31)}
    layout = lay_out(nodes[:2], Runtime(), Resources(), kinds, ["s"])
    more = adapt(layout, nodes, Resources(), None)
    assert more.trainers >= layout.trainers + 3, "and another engine, where it helps more"
    assert set(layout.trainer_slots) < set(more.trainer_slots)
    again = adapt(more, nodes[1:], Resources(), None)
    assert {t.node for t in again.allocations()} == {nodes[1].name, nodes[2].name}
    assert again.engine_slots[0].replicas and again.scorer_places["s"], "in a trainer's place"
    none = adapt(again, (), Resources(), None)
    assert none.trainers == 0 and not none.engine_slots[0].replicas
    back = adapt(none, nodes[:1], Resources(), None)
    assert back.trainers >= 1 and back.engine_slots[0].replicas


def test_a_new_node_of_smaller_gpus_is_not_used() -> None:
    kinds = {"m": EngineMemory(15, 31)}
    layout = lay_out(parse_cluster("1x4xA100"), Runtime(), Resources(), kinds, ["s"])
    small = Node("small", 64, 8, "L4")
    assert adapt(layout, (*layout.nodes, small), Resources(), None) == layout
    large = Node("large", 64, 8, "H200")
    assert adapt(layout, (*layout.nodes, large), Resources(), None).trainers > layout.trainers
