"""Token-level response trees (Definition 3.4) and their pruning (Remark 3.5).

A tree of depth d has d layers. Layer i (1..d) has 2^(i-1) binary nodes, one for each prefix of
i-1 tokens; the root, layer 1, is the empty prefix. Each binary node has an EOS leaf, whose weight
is that of the responses that end there. This is how equations 1 and 20 count: the sums run over
i = 1..d and j = 1..2^(i-1), and the deepest layer has 2^(d-1) nodes. So a tree of depth d
distinguishes responses of up to d-1 tokens.

Pruning to depth d replaces every response by the letter of its first d-1 tokens. So a pruned tree
can be built directly, without ever storing the deeper layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .responses import ResponseError, Responses, as_probabilities

Floats: TypeAlias = NDArray[np.float64]
Weights: TypeAlias = NDArray[np.float64] | NDArray[np.int64]

MAX_DEPTH = 26
"""Maximum number of layers: 2^26 weights of 8 bytes take half a GiB."""


class TreeError(ValueError):
    """Invalid weights or depth, or trees that do not fit together; see the message."""


@dataclass(frozen=True, eq=False)
class ResponseTree:
    """The EOS weights of a tree, in heap order.

    `eos` [2^d] holds the weight of each node. The root is node 1, and the children of node c are 2c
    and 2c+1; entry 0 is unused and 0. Weights are counts (int64, exact) or probabilities
    (float64); their scale does not matter. Raises `TreeError` on an invalid size or weight.
    """

    eos: Weights

    def __post_init__(self) -> None:
        size = self.eos.size
        if self.eos.ndim != 1 or size < 2 or size & (size - 1):
            raise TreeError(f"a tree of depth d has 2^d weights, not shape {self.eos.shape}")
        if self.depth > MAX_DEPTH:
            raise TreeError(f"a tree has at most {MAX_DEPTH} layers, not {self.depth}")
        if self.eos[0] != 0 or not (self.eos >= 0).all() or not 0 < self.total < np.inf:
            raise TreeError("weights must be finite, not negative, and not all zero")

    @classmethod
    def from_responses(cls, responses: Responses | Iterable[Responses], depth: int) -> ResponseTree:
        """Return the tree of a data set, or of its chunks, pruned to `depth` layers.

        Counts are exact.
        """
        _check_depth(depth)
        counts = np.zeros(1 << depth, np.int64)
        for chunk in [responses] if isinstance(responses, Responses) else responses:
            letters = chunk.truncated_codes(depth - 1).astype(np.int64)
            counts += np.bincount(letters, minlength=1 << depth)
        return cls(counts)

    @classmethod
    def from_leaves(cls, leaves: ArrayLike) -> ResponseTree:
        """Return the tree with weights `leaves` [2^(d-1)] on the deepest layer, left to right.

        All other weights are 0 (Assumption A.3).
        """
        weights = np.asarray(leaves)
        kind = np.int64 if np.issubdtype(weights.dtype, np.integer) else np.float64
        return cls(np.concatenate([np.zeros(weights.size, kind), weights.astype(kind).ravel()]))

    @property
    def depth(self) -> int:
        """The number of layers, d."""
        return int(self.eos.size).bit_length() - 1

    @property
    def total(self) -> float:
        """The sum of all weights: the number of responses for counts, 1 for probabilities."""
        return float(self.eos.sum())

    @property
    def probabilities(self) -> Floats:
        """The probabilities [2^d] of the EOS leaves, p_ij of equation 1, in heap order."""
        try:
            return as_probabilities(self.eos)
        except ResponseError as e:  # pragma: no cover - the constructor has checked
            raise TreeError(str(e)) from e

    def layer(self, i: int) -> Weights:
        """Return the EOS weights [2^(i-1)] of layer i. Raises `TreeError` unless 1 <= i <= d."""
        if not 1 <= i <= self.depth:
            raise TreeError(f"the tree has layers 1 to {self.depth}, not {i}")
        return self.eos[1 << (i - 1) : 1 << i]

    def node_weights(self) -> Weights:
        """Return each binary node's weight [2^d]: its EOS weight plus its children's (Def. 3.4)."""
        weights = self.eos.copy()
        for i in range(self.depth - 1, 0, -1):
            children = weights[1 << i : 1 << (i + 1)]
            weights[1 << (i - 1) : 1 << i] += children.reshape(-1, 2).sum(axis=1)
        return weights

    def prune(self, depth: int) -> ResponseTree:
        """Return the top `depth` layers; the EOS leaf gets the weight below it (Remark 3.5)."""
        _check_depth(depth)
        if depth >= self.depth:
            return self
        kept: Weights = self.eos[: 1 << depth].copy()
        kept[1 << (depth - 1) :] = self.node_weights()[1 << (depth - 1) : 1 << depth]
        return ResponseTree(kept)

    def grow(self, depth: int) -> ResponseTree:
        """Return the same tree with empty layers added, so that it fits a deeper tree."""
        _check_depth(depth)
        if depth <= self.depth:
            return self
        grown: Weights = np.pad(self.eos, (0, (1 << depth) - self.eos.size))  # type: ignore[assignment]
        return ResponseTree(grown)

    def complement(self) -> ResponseTree:
        """Return the tree with 0 and 1 exchanged: every layer is reversed."""
        layers = [self.layer(i)[::-1] for i in range(1, self.depth + 1)]
        return ResponseTree(np.concatenate([self.eos[:1], *layers]))

    def entropy(self) -> float:
        """Return the Shannon entropy of the letters in bits: the bracket of equation 1."""
        p = self.probabilities
        p = p[p > 0]
        return float(-(p * np.log2(p)).sum())


def _check_depth(depth: int) -> None:
    if not 1 <= depth <= MAX_DEPTH:
        raise TreeError(f"a tree has 1 to {MAX_DEPTH} layers, not {depth}")
