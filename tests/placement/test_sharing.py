"""Fewer GPUs than a sweep needs side by side: fractions of a GPU, turns, or a clear refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_layout import asked, check, clusters, engines_of, models, runtimes, unknown, works

from elastic_ray.placement import Layout, Node, Phase, adapt, lay_out, lend_engines, parse_cluster
from elastic_ray.placement.layout import EngineMemory, Workload
from elastic_ray.placement.sharing import fit
from elastic_ray.spec import Resources, Runtime, Serving, SpecError

SCORER = Resources(scorers=Serving(gpus=0.25))
TWO = {"a": EngineMemory(3.0, 10.0), "b": EngineMemory(15.0, 31.0)}
many = settings(max_examples=200, deadline=None)


def check_phases(layout: Layout) -> None:
    """Assert that each phase fits, or all of it where nothing takes turns."""
    for part in [layout.during(phase) for phase in Phase] if layout.turns else [layout]:
        check(part)


@given(clusters, runtimes, asked, engines_of, st.integers(0, 2), works, models)
@many
def test_what_fits_side_by_side_does_not_take_turns(
    nodes: tuple[Node, ...],
    runtime: Runtime,
    resources: Resources,
    engines: dict[str, EngineMemory],
    scorers: int,
    work: Workload | None,
    worker: EngineMemory,
) -> None:
    names = [f"s{i}" for i in range(scorers)]
    try:
        expected = lay_out(nodes, runtime, resources, engines, names, work)
    except SpecError:
        expected = None
    try:
        layout = fit(nodes, runtime, resources, engines, names, work, worker.wanted)
    except SpecError:
        assert expected is None
        return
    check_phases(layout)
    assert expected is None or layout == expected
    assert layout.trainers >= 1 and layout.replicas >= 1
    assert all(layout.scorer_places[name] for name in names)


@given(clusters, runtimes, engines_of, st.integers(0, 2), st.sets(st.integers(0, 4)))
@many
def test_turns_stay_turns_when_nodes_leave_and_return(
    nodes: tuple[Node, ...],
    runtime: Runtime,
    engines: dict[str, EngineMemory],
    scorers: int,
    lost: set[int],
) -> None:
    names = [f"s{i}" for i in range(scorers)]
    try:
        layout = fit(nodes, runtime, SCORER, engines, names)
    except SpecError:
        return
    if not layout.turns:
        return
    left = tuple(node for i, node in enumerate(nodes) if i not in lost)
    fewer = adapt(layout, left, SCORER, None)
    check_phases(fewer)
    assert fewer.turns and len(fewer.engine_slots) >= len(layout.engine_slots)
    again = adapt(fewer, nodes, SCORER, None)
    check_phases(again)
    assert again.turns and again.trainers >= 1 and again.replicas >= 1


def test_a_phase_has_only_its_own_places_and_keeps_the_indices_of_slots() -> None:
    layout = fit(parse_cluster("1x1xA100-80G"), Runtime(), SCORER, TWO, ["s"])
    assert layout.turns
    training, evaluation = (layout.during(phase) for phase in Phase)
    assert training.trainers == 1 and evaluation.trainers == 0
    assert not any(slot.replicas for slot in training.engine_slots)
    assert len(training.engine_slots) == len(evaluation.engine_slots) == len(layout.engine_slots)
    assert training.scorer_places == {"s": ()} and evaluation.scorer_places["s"]
    assert training.engine_slots != evaluation.engine_slots == layout.engine_slots


def test_a_small_model_trains_on_a_fraction_beside_its_engine() -> None:
    nodes = parse_cluster("1x1xA100-80G")
    small = {"e": EngineMemory(3.0, 10.0)}
    layout = fit(nodes, Runtime(), SCORER, small, ["s"], worker_gib=20.0)
    assert not layout.turns
    assert layout.needs.worker.gpus == 0.5 and layout.needs.engines["e"].gpus == 0.25
    fixed = Runtime(gpus_per_worker=1.0)
    assert fit(nodes, fixed, SCORER, small, ["s"], worker_gib=20.0).turns, "the spec's own choice"
    assert fit(nodes, Runtime(), SCORER, small, ["s"], worker_gib=40.0).turns, "too large for half"
    assert fit(nodes, Runtime(), SCORER, small, ["s"]).turns, "of unknown size"


def test_an_engine_gets_less_cache_if_it_leaves_no_room_for_the_scorer() -> None:
    nodes = parse_cluster("1x1xA100-80G")
    engine = {"e": EngineMemory(28.0, 65.0)}
    alone = fit(nodes, Runtime(), Resources(), engine, [])
    assert alone.turns and alone.needs.engines["e"].gpus == 1.0
    beside = fit(nodes, Runtime(), SCORER, engine, ["s"])
    assert beside.turns and beside.needs.engines["e"].gpus == 0.5
    with pytest.raises(
        SpecError, match=r"1 engine\(s\) of 0.25 CPU and 1 GPU and 1 sc.*gpus: 0} wo"
    ):
        fit(nodes, Runtime(), SCORER, {"e": EngineMemory(50.0, 65.0)}, ["s"])


def test_what_does_not_fit_by_itself_is_refused() -> None:
    with pytest.raises(SpecError, match=r"1 trainer \(4 x 1 CPU and 1 GPU\) need"):
        fit(parse_cluster("1x2xA100"), Runtime(workers=4), SCORER, unknown(1), ["s"])


def test_engines_of_a_turn_use_every_gpu_and_no_more_replicas() -> None:
    nodes = parse_cluster("1x4xA100-80G")
    layout = fit(nodes, Runtime(workers=4), Resources(), {"e": EngineMemory(3.0, 10.0)}, [])
    assert layout.turns and layout.trainers == 1
    assert layout.replicas == 4
    assert replace(layout, turns=False).during(Phase.EVALUATION).trainers == 0


@given(clusters, runtimes, asked, engines_of, st.integers(0, 2), works)
@many
def test_lent_places_fit_and_no_trainer_moves(
    nodes: tuple[Node, ...],
    runtime: Runtime,
    resources: Resources,
    engines: dict[str, EngineMemory],
    scorers: int,
    work: Workload | None,
) -> None:
    try:
        layout = fit(nodes, runtime, resources, engines, [f"s{i}" for i in range(scorers)], work)
    except SpecError:
        return
    lent = lend_engines(layout, resources, work)
    check(lent)
    assert lent.trainer_slots[: layout.trainers] == layout.trainer_slots
    assert not any(slot.replicas for slot in lent.engine_slots)
    assert resources.trainers is None or lent.trainers == layout.trainers


def test_an_idle_engine_gives_its_gpu_to_a_trainer() -> None:
    layout = fit(parse_cluster("1x4xA100-80G"), Runtime(), Resources(), unknown(1), [])
    lent = lend_engines(layout, Resources(), None)
    assert (layout.trainers, lent.trainers) == (3, 4)


def test_on_a_gpu_of_unknown_memory_an_engine_leaves_room_for_the_scorer() -> None:
    node = Node("here", 8.0, 1, None)
    layout = fit([node], Runtime(), SCORER, {"e": EngineMemory(3.0, 10.0)}, ["s"])
    assert layout.turns and layout.needs.engines["e"].gpus == 0.5
