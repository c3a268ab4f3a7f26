"""Who holds which place of a layout while nodes come and go; and how many workers a trainer has."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sweeps import plan_of, spec_of

from elastic_ray.evaluation.engine_slots import EngineSlots
from elastic_ray.placement import (
    Layout,
    Node,
    adapt,
    ladder_profile,
    lay_out,
    parse_cluster,
    settle_worker_count,
)
from elastic_ray.placement.layout import EngineMemory
from elastic_ray.placement.memory import worker_gib
from elastic_ray.placement.worker_count import LadderProfile
from elastic_ray.schedule.trainer_slots import TrainerSlots
from elastic_ray.spec import Recipe, Resources, Runtime, Serving, SpecError

NODES = parse_cluster("3x4xA100")


def laid(nodes: tuple[Node, ...], kinds: int = 1, **resources: object) -> Layout:
    """A layout of engines of a whole GPU each."""
    engines = {f"engine {i}": EngineMemory() for i in range(kinds)}
    return lay_out(nodes, Runtime(), Resources(**resources), engines, ["s"])


@given(st.lists(st.booleans(), max_size=40))
def test_a_slot_has_one_trial_at_a_time(takes: list[bool]) -> None:
    layout = laid(NODES)
    room = sorted(slot.nodes for slot in layout.trainer_slots)
    slots, held = TrainerSlots(layout.trainer_slots), {}
    for number, take in enumerate(takes):
        if take:
            nodes = slots.acquire(f"t{number}")
            assert (nodes is None) == (len(held) == len(room))
            if nodes is not None:
                held[f"t{number}"] = nodes
        elif held:
            name = min(held)
            slots.release(name)
            del held[name]
        left = list(room)
        for nodes in held.values():
            left.remove(nodes)


def test_no_new_trial_goes_where_a_node_went() -> None:
    layout = laid(NODES)
    slots = TrainerSlots(layout.trainer_slots)
    held = [slots.acquire(f"t{i}") for i in range(layout.trainers)]
    assert None not in held and slots.acquire("one more") is None
    fewer = adapt(layout, NODES[1:], Resources(), None)
    slots.replace(fewer.trainer_slots)
    assert slots.acquire("one more") is None, "what is held stays held"
    for i in range(layout.trainers):
        slots.release(f"t{i}")
    again = [slots.acquire(f"a{i}") for i in range(layout.trainers)]
    given_out = [nodes for nodes in again if nodes is not None]
    assert len(given_out) == fewer.trainers < layout.trainers
    assert (NODES[0].name,) not in given_out
    slots.replace(adapt(fewer, NODES, Resources(), None).trainer_slots)
    assert (NODES[0].name,) in [slots.acquire(f"b{i}") for i in range(4)]


def test_kinds_of_engines_take_turns_where_there_are_fewer_slots() -> None:
    async def run() -> list[str]:
        layout = laid(parse_cluster("1x3xA100"), kinds=3)
        assert layout.open_groups == 2
        slots, opened = EngineSlots(layout), []

        async def work(kind: str) -> None:
            async with slots.hold(kind):
                opened.append(kind)
                assert len(slots.open) <= 2 and sum(slots.places(kind).values()) == 1
                await asyncio.sleep(0)

        await asyncio.gather(*(work(f"engine {i}") for i in range(3)))
        assert slots.open == [] and slots.free("engine 0")
        return opened

    assert sorted(asyncio.run(run())) == ["engine 0", "engine 1", "engine 2"]


def test_an_engine_waits_for_nodes_where_there_are_none() -> None:
    async def run() -> dict[str, int]:
        layout = laid(NODES[:1])
        nothing = adapt(layout, (), Resources(), None)
        slots = EngineSlots(nothing)
        assert not slots.free("engine 0")

        async def work() -> dict[str, int]:
            async with slots.hold("engine 0"):
                return slots.places("engine 0")

        waiting = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        assert not waiting.done()
        await slots.become(adapt(nothing, NODES[2:], Resources(), None))
        return await waiting

    assert list(asyncio.run(run())) == [NODES[2].name]


def workers(
    asked: object, ladders: LadderProfile, nodes: tuple[Node, ...], **resources: object
) -> int:
    """The number of workers that is settled on."""
    runtime = Runtime.model_validate({"workers": asked})
    engines = {"engine": EngineMemory()}
    found = settle_worker_count(
        runtime, ladders, nodes, Resources(**resources), engines, ["s"]
    ).workers
    assert isinstance(found, int)
    return found


def test_workers_are_as_few_as_hold_the_model_and_more_where_ladders_are_few() -> None:
    many = LadderProfile(20, 100, lambda n: 240 / n)
    assert workers("auto", many, NODES) == 4, "of 80 GB each"
    assert workers((1, 2), many, NODES) == 2
    assert workers((3, 20), LadderProfile(20, 100, lambda n: 10.0), NODES) == 3
    assert workers(7, LadderProfile(5, 1, lambda n: None), NODES) == 7, "a number is not changed"
    assert workers("auto", LadderProfile(20, 100, lambda n: None), NODES) == 1
    cpus = parse_cluster("1x16cpu")
    assert workers("auto", LadderProfile(20, 2, lambda n: 1e9), cpus) > 4, (
        "two ladders, sixteen cores"
    )
    assert workers("auto", LadderProfile(3, 1, lambda n: None), cpus) == 3, (
        "of a global batch of three"
    )
    few = Resources(engines=Serving(replicas=1))
    assert workers("auto", LadderProfile(64, 1, lambda n: 10.0), NODES, engines=few.engines) == 11


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 8), st.integers(0, 8), st.booleans())
def test_workers_stay_in_their_range(
    batch: int, at_once: int, low: int, more: int, auto: bool
) -> None:
    ladders = LadderProfile(batch, at_once, lambda n: 90.0 / n)
    if not auto and low > batch:
        with pytest.raises(SpecError, match=f"training.workers: found {low} to {low + more}; "):
            workers((low, low + more), ladders, NODES)
        return
    found = workers("auto" if auto else (low, low + more), ladders, NODES)
    assert 1 <= found <= batch
    assert auto or low <= found <= low + more


def test_a_zero_stage_divides_what_it_divides() -> None:
    recipe = Recipe(precision="bf16")
    alone = [worker_gib(10**9, recipe, stage, 1) for stage in range(4)]
    assert len(set(alone)) == 1
    shared = [worker_gib(10**9, recipe, stage, 8) for stage in range(4)]
    assert shared[0] == alone[0] and shared == sorted(shared, reverse=True)


def test_what_a_plan_says_of_its_ladders() -> None:
    plan = plan_of(spec_of(seeds=[0, 1, 2], positive=[8, 16], training={"global_batch": 8}))
    ladders = ladder_profile(plan)
    assert ladders.batch == 8
    assert ladders.at_once == 6, "three seeds, from two sizes each"
    assert ladders.gib(1) is not None


@pytest.mark.parametrize("workers", [0, 1.5, "many", [2], [3, 2], [0, 2], True])
def test_other_words_for_workers_are_refused_in_one_line(workers: object) -> None:
    with pytest.raises(ValueError, match="must be a number from 1 to 4096, auto, or the") as error:
        spec_of(training={"workers": workers})
    assert str(error.value).count("must be a number") == 1


def test_what_was_asked_for_comes_back_with_its_nodes() -> None:
    asked = {"trainers": 4, "engines": Serving(replicas=4), "scorers": Serving(replicas=2)}
    layout = laid(NODES, **asked)
    fewer = adapt(layout, NODES[:1], Resources(**asked), None)
    assert fewer.trainers < 4
    again = adapt(fewer, NODES, Resources(**asked), None)
    assert again.trainers == layout.trainers == 4
    assert [len(slot.replicas) for slot in again.engine_slots] == [4]
    assert {name: len(places) for name, places in again.scorer_places.items()} == {"s": 2}


def test_no_slot_of_a_lost_node_is_given_out_before_the_next_layout() -> None:
    layout = laid(NODES)
    slots = TrainerSlots(layout.trainer_slots)
    lost = layout.trainer_slots[0].nodes[0]
    slots.exclude({lost})
    given = [slots.acquire(f"t{i}") for i in range(layout.trainers)]
    assert given.count(None) == sum(lost in slot.nodes for slot in layout.trainer_slots)
    assert not any(lost in nodes for nodes in given if nodes)
    slots.replace(layout.trainer_slots)
    assert slots.acquire("again") is not None
