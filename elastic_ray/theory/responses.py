"""Binary responses, packed: what a response tree is grown from.

Tokens are 0 or 1 (Assumption 3.3). A response is held by its *code*: a leading 1 followed by its
tokens, read as a binary number, so that `""` is 1, `"0"` 2, `"1"` 3, `"00"` 4. That is the node's
index in a binary heap, the order in which `ResponseTree` keeps its nodes. A code holds the first
`MAX_CODE_TOKENS` tokens; `lengths` keeps the true number of tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Codes: TypeAlias = NDArray[np.uint64]
Ints: TypeAlias = NDArray[np.int64]

MAX_CODE_TOKENS = 62
"""Tokens of a response that its code keeps: with the leading 1 they fit 63 bits."""

CHUNK_RESPONSES = 1 << 20
"""Responses drawn at once, so that ten million of them need no more memory than one million."""

BLOCK_BYTES = 1 << 24
"""Bytes of a file read at once."""

_NONE = np.zeros(0, np.int64)


class ResponseError(ValueError):
    """The data are no binary responses; the message says where."""


@dataclass(frozen=True, eq=False)
class Responses:
    """`codes` [n]: the first `MAX_CODE_TOKENS` tokens of each response; `lengths` [n]: its tokens."""

    codes: Codes
    lengths: Ints

    def __post_init__(self) -> None:
        if self.codes.shape != self.lengths.shape or self.codes.ndim != 1:
            raise ResponseError("codes and lengths must be two vectors of one length")

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def from_strings(cls, texts: Iterable[str]) -> Responses:
        """From strings of "0" and "1". Raises `ResponseError` on any other character."""
        codes, lengths = [], []
        for number, text in enumerate(texts):
            if text.strip("01"):
                raise ResponseError(f"response {number} is not made of 0 and 1: {text[:40]!r}")
            codes.append(int("1" + text[:MAX_CODE_TOKENS], 2))
            lengths.append(len(text))
        return cls(np.array(codes, np.uint64), np.array(lengths, np.int64))

    @classmethod
    def from_lines(cls, text: bytes) -> Responses:
        """From lines of "0" and "1", as in a file, an empty line being the empty response.

        Vectorised, for millions of lines. Raises `ResponseError` on any other byte.
        """
        characters = np.frombuffer(text.removesuffix(b"\n"), np.uint8)
        breaks = np.flatnonzero(characters == ord("\n"))
        wrong = (characters & 0xFE) != ord("0")
        wrong[breaks] = False
        if wrong.any():
            line = int(np.searchsorted(breaks, np.argmax(wrong)))
            raise ResponseError(f"line {line + 1} is not made of 0 and 1")
        starts = np.concatenate([[0], breaks + 1]).astype(np.int64) if text else _NONE
        lengths = np.append(breaks, characters.size).astype(np.int64) - starts if text else _NONE
        codes = np.ones(len(starts), np.uint64)
        for token in range(min(int(lengths.max(initial=0)), MAX_CODE_TOKENS)):
            here = np.flatnonzero(lengths > token)
            bits = (characters[starts[here] + token] & 1).astype(np.uint64)
            codes[here] = (codes[here] << np.uint64(1)) | bits
        return cls(codes, lengths)

    @classmethod
    def from_bytes(cls, texts: Iterable[bytes]) -> Responses:
        """From byte strings, a byte being eight tokens, the highest bit first."""
        return cls.from_strings("".join(f"{byte:08b}" for byte in text) for text in texts)

    def heads(self, tokens: int) -> Codes:
        """[n]: codes cut to their first `tokens` tokens. Raises `ResponseError` above `MAX_CODE_TOKENS`."""
        if not 0 <= tokens <= MAX_CODE_TOKENS:
            raise ResponseError(f"a code keeps {HEAD} tokens; {tokens} were asked for")
        beyond = np.minimum(self.lengths, MAX_CODE_TOKENS) - tokens
        cut: Codes = self.codes >> np.maximum(beyond, 0).astype(np.uint64)
        return cut

    def complement(self) -> Responses:
        """The same responses with 0 and 1 exchanged."""
        held = np.minimum(self.lengths, MAX_CODE_TOKENS).astype(np.uint64)
        tokens = (np.uint64(1) << held) - np.uint64(1)
        return Responses(self.codes ^ tokens, self.lengths)


def read_responses(file: BinaryIO) -> Iterator[Responses]:
    """The responses of a file, a line each, a block of lines at a time.

    Raises `ResponseError` on a line that is not made of 0 and 1.
    """
    rest, lines = b"", 0
    while block := file.read(BLOCK_BYTES):
        whole, newline, rest = (rest + block).rpartition(b"\n")
        try:
            chunk = Responses.from_lines(whole + newline)
        except ResponseError as e:
            raise ResponseError(f"after line {lines}: {e}" if lines else str(e)) from e
        lines += len(chunk)
        yield chunk
    if rest:
        yield Responses.from_lines(rest)


@dataclass(frozen=True)
class MarkovSource:
    """Generated responses: after each token the response ends with probability `stop`.

    The first token is 1 with probability `one_after[0]`; a token after t is 1 with probability
    `one_after[t]`. `limit` (at most `MAX_CODE_TOKENS`) bounds the tokens of a response.
    """

    stop: float = 0.05
    one_after: tuple[float, float] = (0.3, 0.8)
    limit: int = 24

    def __post_init__(self) -> None:
        if not all(0 <= p <= 1 for p in (self.stop, *self.one_after)):
            raise ResponseError("stop and one_after are probabilities")
        if not 0 <= self.limit <= MAX_CODE_TOKENS:
            raise ResponseError(f"limit must lie between 0 and {HEAD}")

    def chunks(self, count: int, seed: int) -> Iterator[Responses]:
        """`count` responses, at most `CHUNK_RESPONSES` at a time; the same seed gives the same ones."""
        rng = np.random.default_rng(seed)
        for start in range(0, count, CHUNK_RESPONSES):
            yield self._draw(min(CHUNK_RESPONSES, count - start), rng)

    def _draw(self, count: int, rng: np.random.Generator) -> Responses:
        codes = np.ones(count, np.uint64)
        lengths = np.full(count, self.limit, np.int64)
        alive = np.arange(count)
        last = np.zeros(count, np.intp)
        one_after = np.array(self.one_after)
        for tokens in range(self.limit):
            going = rng.random(len(alive)) >= self.stop
            lengths[alive[~going]] = tokens
            alive = alive[going]
            last = (rng.random(len(alive)) < one_after[last[going]]).astype(np.intp)
            codes[alive] = (codes[alive] << np.uint64(1)) | last.astype(np.uint64)
        return Responses(codes, lengths)


def as_probabilities(weights: ArrayLike) -> NDArray[np.float64]:
    """`weights` divided by their sum. Raises `ResponseError` unless finite, >= 0 and not all 0."""
    values = np.asarray(weights, np.float64)
    total = values.sum()
    if not (np.isfinite(total) and total > 0 and (values >= 0).all()):
        raise ResponseError("weights must be finite, not negative, and not all zero")
    shares: NDArray[np.float64] = values / total
    return shares
