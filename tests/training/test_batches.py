"""Batches: the order of examples, and the learning rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_ray.spec import Recipe
from elastic_ray.training.batches import global_batches, learning_rate, step_count


@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(0, 5), st.integers(1, 3), st.integers(1, 9)
)
def test_sizes_are_nested_and_epochs_visit_the_same_examples(
    small, more, seed, epochs, batch
) -> None:
    recipe = Recipe(epochs=epochs, global_batch=batch)
    large = small + more
    few, many = (
        [b.tolist() for b in global_batches(200, n, recipe.model_copy(update={"epochs": 1}), seed)]
        for n in (small, large)
    )
    whole = small // batch
    assert few[:whole] == many[:whole], "the first global batches are the same"
    every = [b.tolist() for b in global_batches(200, small, recipe, seed)]
    assert len(every) == step_count(small, recipe)
    one = sorted(i for b in few for i in b)
    per_epoch = math.ceil(small / batch)
    for epoch in range(epochs):
        visited = every[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(i for b in visited for i in b) == one


def test_the_learning_rate_warms_up_then_is_constant_or_a_half_cosine() -> None:
    constant = Recipe(learning_rate=1.0, warmup_steps=4)
    assert [learning_rate(s, 10, constant) for s in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    cosine = Recipe(learning_rate=1.0, warmup_steps=4, schedule="cosine")
    rates = [learning_rate(s, 12, cosine) for s in range(12)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1]
    assert rates[4] == 1 and rates[8] == pytest.approx(0.5)
    assert (np.diff(rates[4:]) < 0).all() and rates[-1] > 0


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_constant_learning_rate_does_not_depend_on_the_number_of_steps(total, more) -> None:
    recipe = Recipe(warmup_steps=7)
    for step in range(total):
        assert learning_rate(step, total, recipe) == learning_rate(step, total + more, recipe)
