"""Response trees, their pruning and code lengths, as definitions 3.4 to 3.12 state them."""

from __future__ import annotations

import heapq
import io
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from elastic_ray.theory import (
    MarkovSource,
    ResponseError,
    Responses,
    ResponseTree,
    TreeError,
    code_lengths,
    compression_rates,
    cross_entropies,
    huffman_code,
    ideal_code_length,
    joint_tree,
    normalise_rates,
    normalised_rates,
    rates_on_trees,
    read_responses,
    segmented_code_length,
)
from elastic_ray.theory.responses import MAX_CODE_TOKENS

RESPONSE = st.text("01", max_size=9)
DATA = st.lists(RESPONSE, min_size=1, max_size=40)
DEPTH = st.integers(1, 8)
WEIGHTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=60).filter(any)
FLIP = str.maketrans("01", "10")


def tree_of(texts: list[str], depth: int) -> ResponseTree:
    return ResponseTree.from_responses(Responses.from_strings(texts), depth)


def leaf_trees(count: int, depth: int, seed: int) -> list[ResponseTree]:
    rng = np.random.default_rng(seed)
    return [
        ResponseTree.from_leaves(rng.gamma(1.0, size=1 << (depth - 1)) + 0.01) for _ in range(count)
    ]


class TestTree:
    @given(DATA, DEPTH)
    def test_eos_weights_count_the_responses_cut_to_their_first_tokens(self, texts, depth):
        counts = Counter(int("1" + text[: depth - 1], 2) for text in texts)
        tree = tree_of(texts, depth)
        assert tree.depth == depth
        assert {node: int(w) for node, w in enumerate(tree.eos) if w} == counts

    @given(DATA, DEPTH)
    def test_a_node_weighs_what_ends_there_and_what_its_children_weigh(self, texts, depth):
        tree = tree_of(texts, depth)
        weights = tree.node_weights()
        assert weights[1] == len(texts)
        for node in range(1, 1 << (depth - 1)):
            assert weights[node] == tree.eos[node] + weights[2 * node] + weights[2 * node + 1]

    @given(DATA, DEPTH, DEPTH)
    def test_pruning_conserves_probability_and_equals_growing_it_pruned(self, texts, deep, shallow):
        pruned = tree_of(texts, deep).prune(shallow)
        assert pruned.total == len(texts)
        assert math.isclose(pruned.probabilities.sum(), 1)
        assert (pruned.eos == tree_of(texts, min(deep, shallow)).eos).all()

    @given(DATA, DEPTH, DEPTH)
    def test_pruning_never_adds_entropy(self, texts, deep, shallow):
        tree = tree_of(texts, deep)
        assert tree.prune(shallow).entropy() <= tree.entropy() + 1e-12

    @given(st.integers(0, 2**32), st.integers(2, 10), DEPTH)
    def test_pruning_conserves_probabilities_that_are_no_counts(self, seed, deep, shallow):
        weights = np.random.default_rng(seed).random(1 << deep)
        weights[0] = 0
        tree = ResponseTree(weights / weights.sum())
        assert math.isclose(tree.prune(shallow).total, 1, rel_tol=1e-12)

    @given(st.lists(st.text("01", max_size=80), min_size=1, max_size=20), DEPTH)
    def test_exchanging_0_and_1_mirrors_the_tree(self, texts, depth):
        mirrored = tree_of([text.translate(FLIP) for text in texts], depth)
        responses = Responses.from_strings(texts)
        exchanged = ResponseTree.from_responses(responses.complement(), depth)
        assert (exchanged.eos == mirrored.eos).all()
        assert (tree_of(texts, depth).complement().eos == mirrored.eos).all()

    def test_layers_are_counted_as_in_equation_1(self):
        tree = tree_of(["", "0", "1", "11", "11", "110101"], 3)
        assert [tree.layer(i).tolist() for i in (1, 2, 3)] == [[1], [1, 1], [0, 0, 0, 3]]
        with pytest.raises(TreeError, match="layers 1 to 3"):
            tree.layer(4)

    @given(st.lists(st.text("01", max_size=80), min_size=1, max_size=30), st.integers(1, 200))
    def test_a_file_of_lines_is_read_in_blocks(self, texts, block):
        text = "".join(f"{line}\n" for line in texts).encode()
        wanted = Responses.from_strings(texts)
        # also without the last newline, unless the last line is empty
        for data in [text, text.removesuffix(b"\n")] if texts[-1] else [text]:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("elastic_ray.theory.responses.BLOCK_BYTES", block)
                chunks = list(read_responses(io.BytesIO(data)))
            codes = np.concatenate([chunk.codes for chunk in chunks])
            lengths = np.concatenate([chunk.lengths for chunk in chunks])
            assert codes.tolist() == wanted.codes.tolist()
            assert lengths.tolist() == wanted.lengths.tolist()

    def test_an_empty_file_has_no_responses_and_a_wrong_line_is_named(self):
        assert len(Responses.from_lines(b"")) == 0
        assert Responses.from_lines(b"\n\n").codes.tolist() == [1, 1]
        with pytest.raises(ResponseError, match="line 2 is"):
            Responses.from_lines(b"01\n0 1\n")
        with pytest.raises(TreeError, match="not all zero"):
            ResponseTree.from_responses(read_responses(io.BytesIO()), 3)

    def test_bytes_are_eight_tokens_the_highest_bit_first(self):
        assert Responses.from_bytes([b"\x81"]).codes.tolist() == [0b110000001]

    def test_chunks_give_the_tree_of_all_and_a_seed_the_same_responses(self):
        source = MarkovSource(stop=0.2, limit=12)
        whole = Responses(*(np.concatenate(p) for p in zip(*self.parts(source, 5), strict=True)))
        tree = ResponseTree.from_responses(source.chunks(3000, 5), 6)
        assert tree.total == 3000 == len(whole)
        assert (tree.eos == ResponseTree.from_responses(whole, 6).eos).all()
        assert whole.lengths.max() <= 12
        # the length of a response is geometric: 0 tokens with the probability to stop
        assert abs(tree.layer(1)[0] / 3000 - 0.2) < 5 * math.sqrt(0.16 / 3000)

    @staticmethod
    def parts(source: MarkovSource, seed: int):
        return [(r.codes, r.lengths) for r in source.chunks(3000, seed)]

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            (np.ones(3), "2\\^d weights"),
            (np.array([1.0, 1.0]), "not all zero"),
            (np.array([0.0, -1.0]), "not all zero"),
            (np.array([0.0, np.nan]), "not all zero"),
            (np.zeros(4), "not all zero"),
        ],
    )
    def test_wrong_weights_are_refused(self, weights, message):
        with pytest.raises(TreeError, match=message):
            ResponseTree(weights)

    def test_wrong_responses_and_depths_are_refused(self):
        with pytest.raises(ResponseError, match="response 1"):
            Responses.from_strings(["01", "0a"])
        with pytest.raises(TreeError, match="layers"):
            tree_of(["0"], 0)
        with pytest.raises(ResponseError, match="probabilities"):
            MarkovSource(stop=1.5)


class TestHuffman:
    @staticmethod
    def merged_by_heap(weights: list[int]) -> Fraction:
        heap = [w for w in weights if w]
        heapq.heapify(heap)
        total, cost = sum(heap), 0
        while len(heap) > 1:
            merged = heapq.heappop(heap) + heapq.heappop(heap)
            cost += merged
            heapq.heappush(heap, merged)
        return Fraction(cost, total)

    @given(WEIGHTS)
    def test_it_is_optimal_and_a_prefix_code(self, weights):
        code = huffman_code(weights)
        used = [(w, int(n)) for w, n in zip(weights, code.lengths, strict=True) if w]
        assert code.expected_length == float(self.merged_by_heap(weights))
        assert math.isclose(
            code.expected_length, sum(w * n for w, n in used) / sum(weights), abs_tol=1e-12
        )
        if len(used) > 1:
            assert sum(Fraction(1, 2**n) for _, n in used) == 1
        assert all(n == 0 for w, n in zip(weights, code.lengths, strict=True) if not w)

    @given(WEIGHTS)
    def test_it_is_within_one_bit_of_the_entropy(self, weights):
        p = np.array([w for w in weights if w]) / sum(weights)
        entropy = float(-(p * np.log2(p)).sum())
        assert entropy - 1e-12 <= huffman_code(weights).expected_length < entropy + 1

    def test_halves_are_coded_at_their_entropy(self):
        weights = [2**n for n in range(30, 0, -1)] + [2]
        assert huffman_code(weights).lengths.tolist() == [*range(1, 31), 30]

    def test_weights_that_are_none_are_refused(self):
        for weights in ([], [0, 0], [1, -1], [math.inf, 1]):
            with pytest.raises(ResponseError):
                huffman_code(weights)


class TestCodeLength:
    @given(DATA, DEPTH, st.integers(0, 100))
    def test_three_codes_of_one_tree(self, texts, depth, seed):
        lengths = code_lengths(tree_of(texts, depth), sampled=50, seed=seed)
        assert lengths.ideal - 1e-12 <= lengths.huffman < lengths.ideal + 1
        spare = 50 * (lengths.arithmetic - lengths.arithmetic_ideal)
        assert spare < 8 + 1e-3, "an arithmetic code takes the ideal, rounded up to bytes"

    @given(DATA, st.integers(2, 11))
    def test_segments_cost_what_the_tree_asks_for_them(self, texts, depth):
        responses = Responses.from_strings(texts)
        tree = ResponseTree.from_responses(responses, depth)
        probability = tree.probabilities
        for text, cost in zip(texts, segmented_code_length(tree, responses), strict=True):
            cuts = range(0, max(len(text), 1), depth - 1)
            pieces = [int("1" + text[cut : cut + depth - 1], 2) for cut in cuts]
            wanted = math.prod(float(probability[piece]) for piece in pieces)
            if wanted == 0:
                assert cost == math.inf
            else:
                assert cost == pytest.approx(-math.log2(wanted), abs=1e-9)

    @given(st.lists(st.text("01", max_size=5), min_size=1, max_size=40))
    def test_responses_of_one_letter_cost_the_ideal_length_on_average(self, texts):
        tree = tree_of(texts, 6)
        mean = segmented_code_length(tree, Responses.from_strings(texts)).mean()
        assert mean == pytest.approx(tree.entropy(), abs=1e-9)
        assert ideal_code_length(tree, 5) == tree.entropy()
        assert ideal_code_length(tree, 6) == 2 * tree.entropy()

    def test_equation_1_says_nothing_of_segments_that_no_letter_stands_for(self):
        """All responses have 4 tokens: cut after 3, the last token was never seen alone."""
        texts = [f"{n:04b}" for n in range(16)]
        tree = tree_of(texts, 4)
        assert ideal_code_length(tree, 4) == 6
        assert np.isinf(segmented_code_length(tree, Responses.from_strings(texts))).all()

    def test_what_cannot_be_cut_is_refused(self):
        with pytest.raises(TreeError, match="depth 1"):
            segmented_code_length(tree_of(["0"], 1), Responses.from_strings(["0"]))
        with pytest.raises(ResponseError, match="all tokens"):
            segmented_code_length(
                tree_of(["0"], 3), Responses.from_strings(["0" * (MAX_CODE_TOKENS + 1)])
            )


class TestJoint:
    @given(st.lists(DATA, min_size=1, max_size=4), DEPTH)
    def test_equation_4_gives_the_tree_of_the_union(self, sets, depth):
        trees = [tree_of(texts, depth) for texts in sets]
        joint = joint_tree(trees, [len(texts) for texts in sets])
        union = tree_of([text for texts in sets for text in texts], depth)
        np.testing.assert_allclose(joint.probabilities, union.probabilities, atol=1e-14)
        # of all nodes, not the EOS nodes alone
        np.testing.assert_allclose(
            joint.node_weights(), union.node_weights() / union.total, atol=1e-13
        )

    @given(st.lists(DATA, min_size=2, max_size=3), DEPTH, st.integers(0, 2**32))
    def test_weights_are_those_of_equation_4_at_any_sizes_and_depths(self, sets, depth, seed):
        sizes = np.random.default_rng(seed).random(len(sets)) + 0.01
        trees = [tree_of(texts, depth + n) for n, texts in enumerate(sets)]
        joint = joint_tree(trees, list(sizes))
        for node in range(1, 1 << depth):
            terms = zip(trees, sizes, strict=True)
            wanted = sum(float(tree.probabilities[node]) * size for tree, size in terms)
            assert joint.eos[node] == pytest.approx(wanted / sizes.sum(), abs=1e-14)

    @given(st.lists(DATA, min_size=2, max_size=4), DEPTH, st.integers(0, 2**32))
    def test_the_union_s_rate_is_the_mean_of_its_parts(self, sets, depth, seed):
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
        if abs(above) > 1e-6:  # else the normalised rates are 0 / 0
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
        assume((sizes * rates.saving).sum() > 0.01 * sizes.sum())  # else the rates are 0 / 0
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
    def test_without_perturbation_one_set_s_bits_are_the_other_s(self, seed, depth, k):
        """dS_2/dl = -k dS_1/dl at l = 0, on any trees whatever: no law is assumed."""
        rates = rates_on_trees(leaf_trees(3, depth, seed), np.array([k, 1.0, 0.0]))
        scale = np.abs(rates.saving_slope[:2] * [k, 1]).max()
        assert abs(rates.saving_slope[1] + k * rates.saving_slope[0]) <= 1e-9 * scale + 1e-13

    def test_a_letter_that_the_joint_tree_lacks_costs_without_end(self):
        trees = [tree_of(["0", "0"], 2), tree_of(["1", "0"], 2)]
        joint = joint_tree(trees, [1, 0])
        assert cross_entropies(trees, joint).tolist() == [0, math.inf]
        with pytest.raises(TreeError, match="size 0"):
            rates_on_trees(trees, np.array([1.0, 0.0]))

    def test_a_uniform_union_has_no_normalised_rates(self):
        trees = [ResponseTree.from_leaves([1, 1]), ResponseTree.from_leaves([2, 2])]
        assert np.isnan(normalised_rates(trees, [1, 1])).all()
        assert np.isnan(rates_on_trees(trees, np.ones(2)).gamma).all()

    def test_measured_rates_are_normalised_by_the_union_s(self):
        """Three texts of 2, 5 and 3 bits a token against 6 uniform; the union takes 3."""
        found = normalise_rates([2, 5, 3], [6, 3, 1], uniform=6)
        np.testing.assert_allclose(found, [4 / 3, 1 / 3, 3 / 3])

    def test_sizes_that_fit_no_trees_are_refused(self):
        tree = ResponseTree.from_leaves([1, 2])
        for sizes in ([1], [1, -1], [0, 0], [1, math.inf]):
            with pytest.raises(TreeError, match="size"):
                joint_tree([tree, tree], sizes)
        with pytest.raises(TreeError, match="leaves"):
            rates_on_trees([tree, tree_of(["", "0"], 2)], np.ones(2))
