"""Code lengths of responses under a pruned tree: ideal, Huffman, arithmetic (sections 2.2, 3.1).

Lengths are in bits. A response of up to d-1 tokens is one letter of a tree of depth d. The paper
codes a longer response in segments and gives its ideal length as the number of segments times the
entropy of the letters (equation 1). This holds only if every segment is distributed like the
tree's letters, which Definition 3.7 does not ensure. `segmented_code_length` computes the actual
cost of the segments. It may differ, and is infinite if a segment has no code word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .arithmetic import Encoder, FrequencyTable
from .huffman import huffman_code
from .responses import MAX_CODE_TOKENS, ResponseError, Responses
from .tree import Floats, ResponseTree, TreeError


@dataclass(frozen=True)
class CodeLengths:
    """Code lengths of a tree's letters, in bits per response: ideal, Huffman and arithmetic.

    `ideal` is the entropy. `huffman` is the exact expected length, between `ideal` and `ideal` + 1.
    `arithmetic` is measured: the coded size of a message of `sampled` letters drawn from the tree,
    divided by `sampled`. `arithmetic_ideal` is the ideal for those letters, their mean -log2 p.
    """

    ideal: float
    huffman: float
    arithmetic: float
    arithmetic_ideal: float
    sampled: int


def code_lengths(tree: ResponseTree, sampled: int = 20_000, seed: int = 0) -> CodeLengths:
    """Return ideal, Huffman and arithmetic code lengths of the letters of `tree`.

    The arithmetic code is measured on `sampled` letters drawn with `seed`.
    """
    letters = np.random.default_rng(seed).choice(tree.eos.size, sampled, p=tree.probabilities)
    if np.issubdtype(tree.eos.dtype, np.integer):
        table = FrequencyTable.from_counts(tree.eos)
    else:
        table = FrequencyTable.from_probabilities(tree.probabilities)
    return CodeLengths(
        ideal=tree.entropy(),
        huffman=huffman_code(tree.eos).expected_length,
        arithmetic=8 * len(arithmetic_code(letters.tolist(), table)) / max(sampled, 1),
        arithmetic_ideal=math.fsum(letter_code_lengths(tree)[letters]) / max(sampled, 1),
        sampled=sampled,
    )


def arithmetic_code(letters: list[int], table: FrequencyTable) -> bytes:
    """Return the arithmetic code of letters under one table."""
    encoder = Encoder()
    for letter in letters:
        encoder.push(letter, table)
    return encoder.finish()


def ideal_code_length(tree: ResponseTree, tokens: int) -> float:
    """Return equation 1 for `tokens` tokens: ceil(|x| / d) times the entropy, in bits.

    |x| counts the root, as the layers do, so responses with |x| <= d are one letter. As in
    equation 1, the root is counted once per response and not once per segment. Raises `TreeError`
    if `tokens` is negative.
    """
    if tokens < 0:
        raise TreeError(f"the number of tokens must not be negative, but is {tokens}")
    return math.ceil((tokens + 1) / tree.depth) * tree.entropy()


def letter_code_lengths(tree: ResponseTree) -> Floats:
    """Return -log2 p of each letter [2^d], in bits; infinite where p is 0."""
    p = tree.probabilities
    lengths = np.full(p.size, np.inf)
    np.log2(p, where=p > 0, out=lengths)
    lengths[p > 0] *= -1
    return lengths


def segmented_code_length(tree: ResponseTree, responses: Responses) -> Floats:
    """Return the cost of each response [n] in bits, cut into segments of d-1 tokens.

    The tree codes each segment; the cost is infinite if a segment has probability 0. Raises
    `ResponseError` if a response has more than `MAX_CODE_TOKENS` tokens, because only the first
    ones are stored, and `TreeError` for a tree of depth 1, which has no tokens.
    """
    step = tree.depth - 1
    if step < 1:
        raise TreeError("a tree of depth 1 cannot code a token")
    if len(responses) and responses.lengths.max() > MAX_CODE_TOKENS:
        raise ResponseError(
            f"segments need all tokens of a response, but only {MAX_CODE_TOKENS} are stored"
        )
    bits = letter_code_lengths(tree)
    cost = np.zeros(len(responses))
    for start in range(0, MAX_CODE_TOKENS + 1, step):
        # The empty response is one letter. Any other response ends with its last tokens.
        here = (responses.lengths > start) if start else np.ones(len(responses), bool)
        lengths = responses.lengths[here]
        held = np.minimum(lengths - start, step).astype(np.uint64)
        after = (lengths - start).astype(np.uint64) - held
        segment = (responses.codes[here] >> after) & ((np.uint64(1) << held) - np.uint64(1))
        cost[here] += bits[(segment | (np.uint64(1) << held)).astype(np.intp)]
    return cost
