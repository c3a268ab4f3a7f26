"""Who holds which trainer slot and engine slot of a layout while nodes join and leave."""

from __future__ import annotations

from fake_groups import FakeGroups
from hypothesis import given
from hypothesis import strategies as st

from elastic_ray.evaluation.engine_slots import EngineSlots
from elastic_ray.placement import (
    Layout,
    Node,
    adapt,
    lay_out,
    parse_cluster,
)
from elastic_ray.placement.layout import EngineMemory
from elastic_ray.schedule.trainer_slots import TrainerSlots
from elastic_ray.spec import Resources, Runtime, Serving

NODES = parse_cluster("3x4xA100")


def laid(nodes: tuple[Node, ...], kinds: int = 1, **resources: object) -> Layout:
    """Return a layout with engines of a whole GPU each."""
    engines = {f"engine {i}": EngineMemory() for i in range(kinds)}
    return lay_out(
        nodes, Runtime(), Resources(**{"scorers": Serving(gpus=0.0), **resources}), engines, ["s"]
    )


def nodes_of(slots: TrainerSlots, trial: str) -> tuple[str, ...] | None:
    """The nodes of the slot that a trial gets."""
    slot = slots.acquire(trial)
    return slot.nodes if slot else None


@given(st.lists(st.sampled_from(["take", "give back", "crash", "start ahead"]), max_size=40))
def test_a_slot_has_one_trial_and_one_group_at_a_time(moves: list[str]) -> None:
    layout, groups = laid(NODES), FakeGroups()
    room = sorted(slot.nodes for slot in layout.trainer_slots)
    slots, held = TrainerSlots(layout.trainer_slots, groups), {}
    for number, move in enumerate(moves):
        if move == "take":
            idle = groups.living - {slot.group for slot in held.values()}
            slot = slots.acquire(f"t{number}")
            assert (slot is None) == (len(held) == len(room))
            if slot is not None:
                assert not idle or slot.group in idle, "a living group is used first"
                held[f"t{number}"] = slot
        elif move == "start ahead":
            before = len(groups.living)
            slots.start_ahead(2)
            assert len(groups.living) == min(before + 2, len(room))
        elif held:
            name = min(held)
            slots.release(name, reusable=move == "give back")
            group = held.pop(name).group
            assert (group in groups.living) == (move == "give back")
        left = list(room)
        for slot in held.values():
            left.remove(slot.nodes)
        used = [slot.group for slot in held.values()]
        assert len(set(used)) == len(used) and set(used) <= groups.living
        assert slots.living == len(groups.living) <= len(room)
    slots.close_idle()
    assert groups.living == {slot.group for slot in held.values()}
    slots.end()
    assert groups.living == set() and slots.living == 0


def test_a_group_that_died_while_idle_is_replaced() -> None:
    layout, groups = laid(NODES, trainers=1), FakeGroups()
    slots = TrainerSlots(layout.trainer_slots, groups)
    first = slots.acquire("t0")
    assert first is not None
    slots.release("t0", reusable=True)
    groups.dead.add(first.group)
    second = slots.acquire("t1")
    assert second is not None and second.nodes == first.nodes and second.group != first.group
    assert groups.living == {second.group}


def test_no_new_trial_gets_a_slot_on_a_departed_node() -> None:
    layout, groups = laid(NODES), FakeGroups()
    slots = TrainerSlots(layout.trainer_slots, groups)
    held = [nodes_of(slots, f"t{i}") for i in range(layout.trainers)]
    assert None not in held and slots.acquire("one more") is None
    fewer = adapt(layout, NODES[1:], Resources(), None)
    slots.replace(fewer.trainer_slots)
    assert slots.acquire("one more") is None, "what is held stays held"
    for i in range(layout.trainers):
        slots.release(f"t{i}", reusable=True)
    assert slots.living == fewer.trainers, "groups on the departed node ended"
    again = [nodes_of(slots, f"a{i}") for i in range(layout.trainers)]
    given_out = [nodes for nodes in again if nodes is not None]
    assert len(given_out) == fewer.trainers < layout.trainers
    assert (NODES[0].name,) not in given_out
    slots.replace(adapt(fewer, NODES, Resources(), None).trainer_slots)
    assert (NODES[0].name,) in [nodes_of(slots, f"b{i}") for i in range(4)]


def test_idle_groups_on_a_departed_node_end() -> None:
    layout, groups = laid(NODES), FakeGroups()
    slots = TrainerSlots(layout.trainer_slots, groups)
    for i in range(layout.trainers):
        slots.acquire(f"t{i}")
    for i in range(layout.trainers):
        slots.release(f"t{i}", reusable=True)
    assert slots.living == layout.trainers == len(groups.started)
    slots.replace(adapt(layout, NODES[1:], Resources(), None).trainer_slots)
    assert groups.living and not any(NODES[0].name in group for group in groups.living)


def test_engine_groups_take_turns_where_there_are_fewer_slots() -> None:
    layout = laid(parse_cluster("1x3xA100"), kinds=3)
    assert layout.open_groups == 2
    slots = EngineSlots(layout.engine_slots)
    for i in range(3):
        slots.enqueue(f"engine {i}")
    opened = [slots.grant(), slots.grant()]
    assert opened == ["engine 0", "engine 1"]
    assert slots.grant() is None and slots.waiting == ("engine 2",)
    for group in slots.holders:
        assert slots.replicas(group) == sum(slots.places(group).values()) == 1
    slots.release("engine 0")
    assert slots.grant() == "engine 2" and len(slots.holders) == 2
    slots.release("engine 1")
    slots.release("engine 2")
    assert slots.holders == () and slots.has_free("engine 0")


def test_an_engine_group_waits_while_no_node_has_a_slot() -> None:
    layout = laid(NODES[:1])
    nothing = adapt(layout, (), Resources(), None)
    slots = EngineSlots(nothing.engine_slots)
    assert not slots.has_free("engine 0")
    slots.enqueue("engine 0")
    assert slots.grant() is None and slots.waiting == ("engine 0",)
    slots.change(adapt(nothing, NODES[2:], Resources(), None).engine_slots)
    assert slots.grant() == "engine 0"
    assert list(slots.places("engine 0")) == [NODES[2].name]


def test_requested_numbers_are_restored_when_nodes_return() -> None:
    asked = {"trainers": 4, "engines": Serving(replicas=4), "scorers": Serving(replicas=2)}
    layout = laid(NODES, **asked)
    fewer = adapt(layout, NODES[:1], Resources(**asked), None)
    assert fewer.trainers < 4
    again = adapt(fewer, NODES, Resources(**asked), None)
    assert again.trainers == layout.trainers == 4
    assert [len(slot.replicas) for slot in again.engine_slots] == [4]
    assert {name: len(places) for name, places in again.scorer_places.items()} == {"s": 2}


def test_no_slot_of_a_lost_node_is_assigned_before_the_next_layout() -> None:
    layout = laid(NODES)
    slots = TrainerSlots(layout.trainer_slots, FakeGroups())
    lost = layout.trainer_slots[0].nodes[0]
    slots.exclude({lost})
    given = [nodes_of(slots, f"t{i}") for i in range(layout.trainers)]
    assert given.count(None) == sum(lost in slot.nodes for slot in layout.trainer_slots)
    assert not any(lost in nodes for nodes in given if nodes)
    slots.replace(layout.trainer_slots)
    assert slots.acquire("again") is not None
