"""Code lengths of responses under a pruned tree: ideal, Huffman, arithmetic (sections 2.2, 3.1).

Lengths are in bits. A response of up to d-1 tokens is one letter of a tree of depth d. The paper
codes a longer one in segments and gives the ideal length as the number of segments times the
entropy of the letters (equation 1). That holds if every segment is distributed like the tree's
letters, which nothing in Definition 3.7 secures: `segmented_code_length` computes what the
segments cost in fact, and the two may part, up to a segment that has no code word at all.
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
    """Bits per response, of a tree's letters: what theory asks and what two codes take.

    `ideal` is the entropy. `huffman` is the exact expected length, from `ideal` to `ideal` + 1.
    `arithmetic` is measured: the bytes of a coded message of `sampled` letters drawn from the
    tree, over `sampled`; `arithmetic_ideal` is what those letters ask for, their mean -log2 p.
    """

    ideal: float
    huffman: float
    arithmetic: float
    arithmetic_ideal: float
    sampled: int


def code_lengths(tree: ResponseTree, sampled: int = 20_000, seed: int = 0) -> CodeLengths:
    """Ideal, Huffman and arithmetic code lengths of the letters of `tree`."""
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
    """The arithmetic code of letters that all have the same table."""
    encoder = Encoder()
    for letter in letters:
        encoder.push(letter, table)
    return encoder.finish()


def ideal_code_length(tree: ResponseTree, tokens: int) -> float:
    """Bits: equation 1 for a response of `tokens` tokens, ceil(|x| / d) times the entropy.

    |x| counts the root, as the layers do, so that |x| <= d are the responses of one letter. (The
    root is counted once, not once a segment: so equation 1 reads.)
    """
    if tokens < 0:
        raise TreeError("a response has no fewer than 0 tokens")
    return math.ceil((tokens + 1) / tree.depth) * tree.entropy()


def letter_code_lengths(tree: ResponseTree) -> Floats:
    """[2^d] bits: -log2 p of each letter, infinite where p is 0."""
    p = tree.probabilities
    lengths = np.full(p.size, np.inf)
    np.log2(p, where=p > 0, out=lengths)
    lengths[p > 0] *= -1
    return lengths


def segmented_code_length(tree: ResponseTree, responses: Responses) -> Floats:
    """[n] bits: what each response costs, cut into segments of d-1 tokens, each coded by the tree.

    Infinite where a segment has probability 0. Raises `ResponseError` for responses whose tokens
    are not all held (more than `MAX_CODE_TOKENS`), `TreeError` for a tree of depth 1, which has no tokens.
    """
    step = tree.depth - 1
    if step < 1:
        raise TreeError("a tree of depth 1 cannot code a token")
    if len(responses) and responses.lengths.max() > MAX_CODE_TOKENS:
        raise ResponseError(f"segments need all tokens; only {HEAD} are held")
    bits = letter_code_lengths(tree)
    cost = np.zeros(len(responses))
    for start in range(0, MAX_CODE_TOKENS + 1, step):
        # the empty response is one letter; any other ends with its last tokens
        here = (responses.lengths > start) if start else np.ones(len(responses), bool)
        lengths = responses.lengths[here]
        held = np.minimum(lengths - start, step).astype(np.uint64)
        after = (lengths - start).astype(np.uint64) - held
        segment = (responses.codes[here] >> after) & ((np.uint64(1) << held) - np.uint64(1))
        cost[here] += bits[(segment | (np.uint64(1) << held)).astype(np.intp)]
    return cost
