"""The thread that prepares the next batch."""

from __future__ import annotations

import threading

import pytest

from elastic_ray.training.ahead import ahead


def test_values_come_in_order_and_an_error_at_its_place() -> None:
    assert list(ahead(lambda n: n * n, range(7))) == [0, 1, 4, 9, 16, 25, 36]
    assert list(ahead(str, [])) == []
    values = ahead(lambda n: 1 // n, [1, 0, 1])
    assert next(values) == 1
    with pytest.raises(ZeroDivisionError):
        next(values)


def test_the_next_value_is_made_while_the_last_is_used_and_no_further() -> None:
    made = [threading.Event() for _ in range(4)]

    def make(n: int) -> int:
        made[n].set()
        return n

    values = ahead(make, range(4))
    for n in range(4):
        assert next(values) == n
        if n < 3:
            assert made[n + 1].wait(60), "made although nobody asks for it yet"
        assert not any(later.is_set() for later in made[n + 2 :])


def test_the_thread_ends_when_the_caller_stops_early() -> None:
    values = ahead(lambda n: n, range(100))
    assert next(values) == 0
    values.close()
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())
