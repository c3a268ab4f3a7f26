"""A replica's lease: many users of one state, or one that swaps; never both, and none starves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_ray.serving.weight_lease import WeightLease


@dataclass
class Weights:
    """The weights of an engine, and a record of their use."""

    now: str | None = None
    users: int = 0
    swaps: list[str] = field(default_factory=list)
    order: list[tuple[str, int]] = field(default_factory=list)


async def use(
    lease: WeightLease, weights: Weights, state: str, who: int, steps: tuple[int, int], fails: bool
) -> str:
    async def swap() -> None:
        assert weights.users == 0, "swapped while in use"
        weights.now = None
        for _ in range(steps[0]):
            await asyncio.sleep(0)
            assert weights.users == 0 and weights.now is None
        if fails:
            raise OSError("the weights are missing")
        weights.now = state
        weights.swaps.append(state)

    try:
        async with lease.hold(state, swap):
            weights.users += 1
            weights.order.append((state, who))
            for _ in range(steps[1]):
                assert weights.now == state, "the weights changed in use"
                assert lease.held_state == state
                await asyncio.sleep(0)
            weights.users -= 1
            return "used"
    except OSError:
        return "failed"


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 5),  # when it arrives
        st.tuples(st.integers(0, 3), st.integers(0, 4)),  # steps of its swap, and of its use
        st.sampled_from([False] * 4 + [True]),  # whether its swap would fail
    ),
    min_size=1,
    max_size=20,
)


@given(REQUESTS)
def test_weights_never_change_in_use_and_every_request_is_served(requests) -> None:
    async def all_of_them() -> tuple[Weights, list[str]]:
        lease, weights = WeightLease(), Weights()

        async def one(who: int, state: str, wait: int, steps: tuple[int, int], fails: bool) -> str:
            for _ in range(wait):
                await asyncio.sleep(0)
            return await use(lease, weights, state, who, steps, fails)

        work = [one(who, *request) for who, request in enumerate(requests)]
        return weights, await asyncio.wait_for(asyncio.gather(*work), timeout=20)

    weights, ended = asyncio.run(all_of_them())
    assert weights.users == 0
    for (_, _, _, fails), end in zip(requests, ended, strict=True):
        assert end == "used" or fails, "a request fails only if its own swap does"
    assert len(weights.order) == ended.count("used")


def test_requests_that_wait_for_one_state_share_one_swap() -> None:
    async def all_of_them() -> Weights:
        lease, weights = WeightLease(), Weights()
        turns = ["a", "b", "a", "b", "a", "b"]
        await asyncio.gather(
            *(use(lease, weights, s, i, (2, 3), False) for i, s in enumerate(turns))
        )
        return weights

    assert asyncio.run(all_of_them()).swaps == ["a", "b"]


def test_a_state_in_constant_demand_does_not_starve_another() -> None:
    async def all_of_them() -> list[tuple[str, int]]:
        lease, weights = WeightLease(), Weights()
        crowd: set[asyncio.Task[str]] = set()
        for i in range(40):
            crowd.add(asyncio.create_task(use(lease, weights, "a", i, (1, 3), False)))
            if i == 5:
                crowd.add(asyncio.create_task(use(lease, weights, "b", i, (1, 1), False)))
            await asyncio.sleep(0)
        await asyncio.gather(*crowd)
        return weights.order

    order = asyncio.run(all_of_them())
    assert order.index(("b", 5)) < 20


@pytest.mark.parametrize("after", range(16))
@pytest.mark.parametrize("victim", [0, 1])
def test_a_cancelled_request_leaves_the_lease_to_others(after: int, victim: int) -> None:
    """At every step: waiting, swapping, entering, using and leaving."""

    async def all_of_them() -> str:
        lease, weights = WeightLease(), Weights()
        both = [
            asyncio.create_task(use(lease, weights, "a", 0, (4, 4), False)),
            asyncio.create_task(use(lease, weights, "b", 1, (4, 4), False)),
        ]
        for _ in range(after):
            await asyncio.sleep(0)
        both[victim].cancel()
        await asyncio.gather(*both, return_exceptions=True)
        weights.users = 0  # a cancelled user does not update the record
        return await asyncio.wait_for(use(lease, weights, "c", 2, (1, 1), False), timeout=20)

    assert asyncio.run(all_of_them()) == "used"
