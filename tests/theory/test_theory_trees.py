"""Response trees, their pruning and code lengths (Definitions 3.4 to 3.8)."""

from __future__ import annotations

import heapq
import io
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from theory_cases import DATA, DEPTH, tree_of

from elastic_ray.theory import (
    MarkovSource,
    ResponseError,
    Responses,
    ResponseTree,
    TreeError,
    code_lengths,
    huffman_code,
    ideal_code_length,
    read_responses,
    segmented_code_length,
)
from elastic_ray.theory.responses import MAX_CODE_TOKENS

WEIGHTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=60).filter(any)
FLIP = str.maketrans("01", "10")


class TestTree:
    @given(DATA, DEPTH)
    def test_eos_weights_count_the_responses_cut_to_their_first_tokens(self, texts, depth):
        counts = Counter(int("1" + text[: depth - 1], 2) for text in texts)
        tree = tree_of(texts, depth)
        assert tree.depth == depth
        assert {node: int(w) for node, w in enumerate(tree.eos) if w} == counts

    @given(DATA, DEPTH)
    def test_a_node_s_weight_is_its_eos_weight_plus_its_children_s(self, texts, depth):
        tree = tree_of(texts, depth)
        weights = tree.node_weights()
        assert weights[1] == len(texts)
        for node in range(1, 1 << (depth - 1)):
            assert weights[node] == tree.eos[node] + weights[2 * node] + weights[2 * node + 1]

    @given(DATA, DEPTH, DEPTH)
    def test_pruning_conserves_weight_and_equals_building_it_pruned(self, texts, deep, shallow):
        pruned = tree_of(texts, deep).prune(shallow)
        assert pruned.total == len(texts)
        assert math.isclose(pruned.probabilities.sum(), 1)
        assert (pruned.eos == tree_of(texts, min(deep, shallow)).eos).all()

    @given(DATA, DEPTH, DEPTH)
    def test_pruning_never_adds_entropy(self, texts, deep, shallow):
        tree = tree_of(texts, deep)
        assert tree.prune(shallow).entropy() <= tree.entropy() + 1e-12

    @given(st.integers(0, 2**32), st.integers(2, 10), DEPTH)
    def test_pruning_conserves_float_probabilities(self, seed, deep, shallow):
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
        # Also without the last newline, unless the last line is empty.
        for data in [text, text.removesuffix(b"\n")] if texts[-1] else [text]:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("elastic_ray.theory.responses.BLOCK_BYTES", block)
                chunks = list(read_responses(io.BytesIO(data)))
            codes = np.concatenate([chunk.codes for chunk in chunks])
            lengths = np.concatenate([chunk.lengths for chunk in chunks])
            assert codes.tolist() == wanted.codes.tolist()
            assert lengths.tolist() == wanted.lengths.tolist()

    def test_an_empty_file_has_no_responses_and_an_invalid_line_is_named(self):
        assert len(Responses.from_lines(b"")) == 0
        assert Responses.from_lines(b"\n\n").codes.tolist() == [1, 1]
        with pytest.raises(ResponseError, match="line 2 has characters other than 0 and 1"):
            Responses.from_lines(b"01\n0 1\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("elastic_ray.theory.responses.BLOCK_BYTES", 3)
            for end in (b"", b"\n"):
                with pytest.raises(ResponseError, match="line 3 has characters"):
                    list(read_responses(io.BytesIO(b"01\n01\n0 1" + end)))
        with pytest.raises(TreeError, match="not all zero"):
            ResponseTree.from_responses(read_responses(io.BytesIO()), 3)

    def test_bytes_are_eight_tokens_the_highest_bit_first(self):
        assert Responses.from_bytes([b"\x81"]).codes.tolist() == [0b110000001]

    def test_chunks_give_the_same_tree_as_the_whole_data_set(self):
        source = MarkovSource(stop=0.2, limit=12)
        whole = Responses(*(np.concatenate(p) for p in zip(*self.parts(source, 5), strict=True)))
        tree = ResponseTree.from_responses(source.chunks(3000, 5), 6)
        assert tree.total == 3000 == len(whole)
        assert (tree.eos == ResponseTree.from_responses(whole, 6).eos).all()
        assert whole.lengths.max() <= 12
        # Response lengths are geometric: a response is empty with probability `stop`.
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
    def test_invalid_weights_raise(self, weights, message):
        with pytest.raises(TreeError, match=message):
            ResponseTree(weights)

    def test_invalid_responses_and_depths_raise(self):
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

    def test_powers_of_two_are_coded_at_their_entropy(self):
        weights = [2**n for n in range(30, 0, -1)] + [2]
        assert huffman_code(weights).lengths.tolist() == [*range(1, 31), 30]

    def test_invalid_weights_raise(self):
        for weights in ([], [0, 0], [1, -1], [math.inf, 1]):
            with pytest.raises(ResponseError):
                huffman_code(weights)


class TestCodeLength:
    @given(DATA, DEPTH, st.integers(0, 100))
    def test_ideal_huffman_and_arithmetic_lengths_are_consistent(self, texts, depth, seed):
        lengths = code_lengths(tree_of(texts, depth), sampled=50, seed=seed)
        assert lengths.ideal - 1e-12 <= lengths.huffman < lengths.ideal + 1
        spare = 50 * (lengths.arithmetic - lengths.arithmetic_ideal)
        assert spare < 8 + 1e-3, "an arithmetic code takes the ideal length, rounded up to bytes"

    @given(DATA, st.integers(2, 11))
    def test_segments_cost_their_code_lengths_in_the_tree(self, texts, depth):
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

    def test_equation_1_ignores_segments_without_a_letter(self):
        """All responses have 4 tokens. Cut after 3, the last token alone is not a letter."""
        texts = [f"{n:04b}" for n in range(16)]
        tree = tree_of(texts, 4)
        assert ideal_code_length(tree, 4) == 6
        assert np.isinf(segmented_code_length(tree, Responses.from_strings(texts))).all()

    def test_uncuttable_responses_raise(self):
        with pytest.raises(TreeError, match="depth 1"):
            segmented_code_length(tree_of(["0"], 1), Responses.from_strings(["0"]))
        with pytest.raises(ResponseError, match="all tokens"):
            segmented_code_length(
                tree_of(["0"], 3), Responses.from_strings(["0" * (MAX_CODE_TOKENS + 1)])
            )
