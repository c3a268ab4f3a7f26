"""Joint trees and normalised rates (Definitions 3.10 to 3.12)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from theory_cases import DATA, DEPTH, leaf_trees, tree_of

from elastic_ray.theory import (
    ResponseTree,
    TreeError,
    compression_rates,
    cross_entropies,
    joint_tree,
    normalise_rates,
    normalised_rates,
    rates_on_trees,
)


class TestJoint:
    @given(st.lists(DATA, min_size=1, max_size=4), DEPTH)
    def test_equation_4_gives_the_tree_of_the_union(self, sets, depth):
        trees = [tree_of(texts, depth) for texts in sets]
        joint = joint_tree(trees, [len(texts) for texts in sets])
        union = tree_of([text for texts in sets for text in texts], depth)
        np.testing.assert_allclose(joint.probabilities, union.probabilities, atol=1e-14)
        # for all nodes, not only the EOS leaves
        np.testing.assert_allclose(
            joint.node_weights(), union.node_weights() / union.total, atol=1e-13
        )

    @given(st.lists(DATA, min_size=2, max_size=3), DEPTH, st.integers(0, 2**32))
    def test_joint_weights_follow_equation_4_at_any_sizes_and_depths(self, sets, depth, seed):
        sizes = np.random.default_rng(seed).random(len(sets)) + 0.01
        trees = [tree_of(texts, depth + n) for n, texts in enumerate(sets)]
        joint = joint_tree(trees, list(sizes))
        for node in range(1, 1 << depth):
            terms = zip(trees, sizes, strict=True)
            wanted = sum(float(tree.probabilities[node]) * size for tree, size in terms)
            assert joint.eos[node] == pytest.approx(wanted / sizes.sum(), abs=1e-14)

    @given(st.lists(DATA, min_size=2, max_size=4), DEPTH, st.integers(0, 2**32))
    def test_the_union_s_rate_is_the_mean_over_its_parts(self, sets, depth, seed):
        sizes = np.random.default_rng(seed).random(len(sets)) + 0.01
        trees = [tree_of(texts, depth) for texts in sets]
        rates = compression_rates(trees, list(sizes))
        assert rates[-1] == pytest.approx(rates[:-1] @ sizes / sizes.sum(), abs=1e-12)
        assert rates[-1] * depth == pytest.approx(joint_tree(trees, list(sizes)).entropy())

    @given(st.lists(DATA, min_size=2, max_size=4), st.integers(2, 8))
    def test_rates_do_not_depend_on_which_token_is_called_1(self, sets, depth):
        sizes = [len(texts) for texts in sets]
        trees = [tree_of(texts, depth) for texts in sets]
        mirrored = [tree.complement() for tree in trees]
        np.testing.assert_allclose(
            compression_rates(mirrored, sizes), compression_rates(trees, sizes), atol=1e-12
        )
        above = compression_rates(trees, sizes)[-1] - (depth - 1) / depth
        if abs(above) > 1e-6:  # otherwise the normalised rates are 0 / 0
            np.testing.assert_allclose(
                normalised_rates(mirrored, sizes),
                normalised_rates(trees, sizes),
                rtol=1e-6,
                atol=1e-6,
            )

    @given(st.integers(0, 2**32), st.integers(5, 8), st.integers(2, 4))
    def test_definition_312_and_its_derivative_on_leaves(self, seed, depth, count):
        trees = leaf_trees(count, depth, seed)
        sizes = np.random.default_rng(seed).random(count) + 0.1
        rates = rates_on_trees(trees, sizes)
        assume((sizes * rates.saving).sum() > 0.01 * sizes.sum())  # otherwise the rates are 0 / 0
        np.testing.assert_allclose(rates.gamma, normalised_rates(trees, list(sizes)), rtol=1e-8)
        np.testing.assert_allclose((sizes * rates.gamma).sum(), sizes.sum(), rtol=1e-9)
        assert abs((sizes * rates.saving_slope).sum()) < 1e-12
        step = np.zeros(count)
        step[-1] = 1e-5
        ahead, behind = rates_on_trees(trees, sizes + step), rates_on_trees(trees, sizes - step)
        for name in ("saving", "gamma"):
            slope = (getattr(ahead, name) - getattr(behind, name)) / 2e-5
            np.testing.assert_allclose(getattr(rates, f"{name}_slope"), slope, rtol=1e-4, atol=1e-6)

    @given(st.integers(0, 2**32), st.integers(2, 8), st.floats(0.1, 1e6))
    def test_at_l_0_one_data_set_gains_the_bits_that_the_other_loses(self, seed, depth, k):
        """dS_2/dl = -k dS_1/dl at l = 0 on any trees; no law is assumed."""
        rates = rates_on_trees(leaf_trees(3, depth, seed), np.array([k, 1.0, 0.0]))
        scale = np.abs(rates.saving_slope[:2] * [k, 1]).max()
        assert abs(rates.saving_slope[1] + k * rates.saving_slope[0]) <= 1e-9 * scale + 1e-13

    def test_a_letter_that_the_joint_tree_lacks_has_infinite_cost(self):
        trees = [tree_of(["0", "0"], 2), tree_of(["1", "0"], 2)]
        joint = joint_tree(trees, [1, 0])
        assert cross_entropies(trees, joint).tolist() == [0, math.inf]
        with pytest.raises(TreeError, match="size 0"):
            rates_on_trees(trees, np.array([1.0, 0.0]))

    def test_a_uniform_union_has_no_normalised_rates(self):
        trees = [ResponseTree.from_leaves([1, 1]), ResponseTree.from_leaves([2, 2])]
        assert np.isnan(normalised_rates(trees, [1, 1])).all()
        assert np.isnan(rates_on_trees(trees, np.ones(2)).gamma).all()

    def test_measured_rates_are_normalised_by_the_union_s_rate(self):
        """Three texts take 2, 5 and 3 bits per token, a uniform code 6 and the union 3."""
        found = normalise_rates([2, 5, 3], [6, 3, 1], uniform=6)
        np.testing.assert_allclose(found, [4 / 3, 1 / 3, 3 / 3])

    def test_sizes_that_do_not_fit_the_trees_raise(self):
        tree = ResponseTree.from_leaves([1, 2])
        for sizes in ([1], [1, -1], [0, 0], [1, math.inf]):
            with pytest.raises(TreeError, match="size"):
                joint_tree([tree, tree], sizes)
        with pytest.raises(TreeError, match="leaves"):
            rates_on_trees([tree, tree_of(["", "0"], 2)], np.ones(2))
