"""Packed binary responses, from which response trees are built.

Tokens are 0 or 1 (Assumption 3.3). A response is stored as its *code*: a leading 1 followed by its
tokens, read as a binary number. So `""` is 1, `"0"` is 2, `"1"` is 3 and `"00"` is 4. This is the
node's index in a binary heap, the order in which `ResponseTree` stores its nodes. A code holds the
first `MAX_CODE_TOKENS` tokens; `lengths` holds the true number of tokens.
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
"""Number of tokens that a code holds: with the leading 1 they fit into 63 bits."""

CHUNK_RESPONSES = 1 << 20
"""Number of responses drawn at once: ten million need no more memory than one million."""

BLOCK_BYTES = 1 << 24
"""Number of bytes of a file that are read at once."""

_NONE = np.zeros(0, np.int64)


class ResponseError(ValueError):
    """Invalid responses, or parameters of a source; the message gives the place or the reason."""


@dataclass(frozen=True, eq=False)
class Responses:
    """A data set of n responses.

    `codes` [n] hold the first `MAX_CODE_TOKENS` tokens of each response, `lengths` [n] its number
    of tokens.
    """

    codes: Codes
    lengths: Ints

    def __post_init__(self) -> None:
        if self.codes.shape != self.lengths.shape or self.codes.ndim != 1:
            raise ResponseError("codes and lengths must be vectors of the same length")

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def from_strings(cls, texts: Iterable[str]) -> Responses:
        """Pack strings of "0" and "1". Raises `ResponseError` on any other character."""
        codes, lengths = [], []
        for number, text in enumerate(texts):
            if text.strip("01"):
                raise ResponseError(
                    f"response {number} has characters other than 0 and 1: {text[:40]!r}"
                )
            codes.append(int("1" + text[:MAX_CODE_TOKENS], 2))
            lengths.append(len(text))
        return cls(np.array(codes, np.uint64), np.array(lengths, np.int64))

    @classmethod
    def from_lines(cls, text: bytes, first_line: int = 1) -> Responses:
        """Pack lines of "0" and "1", as in a file; an empty line is the empty response.

        Vectorised for millions of lines. Raises `ResponseError` on any other byte; its message
        counts lines from `first_line`.
        """
        characters = np.frombuffer(text.removesuffix(b"\n"), np.uint8)
        breaks = np.flatnonzero(characters == ord("\n"))
        wrong = (characters & 0xFE) != ord("0")
        wrong[breaks] = False
        if wrong.any():
            line = int(np.searchsorted(breaks, np.argmax(wrong)))
            raise ResponseError(f"line {first_line + line} has characters other than 0 and 1")
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
        """Pack byte strings; a byte is eight tokens, the highest bit first."""
        return cls.from_strings("".join(f"{byte:08b}" for byte in text) for text in texts)

    def truncated_codes(self, tokens: int) -> Codes:
        """Return the codes [n], cut to their first `tokens` tokens.

        Raises `ResponseError` if `tokens` exceeds `MAX_CODE_TOKENS`.
        """
        if not 0 <= tokens <= MAX_CODE_TOKENS:
            raise ResponseError(
                f"codes can be cut to 0 to {MAX_CODE_TOKENS} tokens, but not to {tokens}"
            )
        beyond = np.minimum(self.lengths, MAX_CODE_TOKENS) - tokens
        cut: Codes = self.codes >> np.maximum(beyond, 0).astype(np.uint64)
        return cut

    def complement(self) -> Responses:
        """Return the same responses with 0 and 1 exchanged."""
        held = np.minimum(self.lengths, MAX_CODE_TOKENS).astype(np.uint64)
        tokens = (np.uint64(1) << held) - np.uint64(1)
        return Responses(self.codes ^ tokens, self.lengths)


def read_responses(file: BinaryIO) -> Iterator[Responses]:
    """Read the responses of a file, one per line, and yield a block of lines at a time.

    Raises `ResponseError` on a line with characters other than 0 and 1.
    """
    rest, lines = b"", 0
    while block := file.read(BLOCK_BYTES):
        whole, newline, rest = (rest + block).rpartition(b"\n")
        chunk = Responses.from_lines(whole + newline, lines + 1)
        lines += len(chunk)
        yield chunk
    if rest:
        yield Responses.from_lines(rest, lines + 1)


@dataclass(frozen=True)
class MarkovSource:
    """Generator of responses from a Markov chain.

    Before each token the response ends with probability `stop`. The first token is 1 with
    probability `one_after[0]`, and a token after t is 1 with probability `one_after[t]`. `limit`
    is the maximum number of tokens, at most `MAX_CODE_TOKENS`.
    """

    stop: float = 0.05
    one_after: tuple[float, float] = (0.3, 0.8)
    limit: int = 24

    def __post_init__(self) -> None:
        if not all(0 <= p <= 1 for p in (self.stop, *self.one_after)):
            raise ResponseError("stop and one_after must be probabilities")
        if not 0 <= self.limit <= MAX_CODE_TOKENS:
            raise ResponseError(f"limit must be between 0 and {MAX_CODE_TOKENS}")

    def chunks(self, count: int, seed: int) -> Iterator[Responses]:
        """Yield `count` responses, at most `CHUNK_RESPONSES` at a time.

        The same seed gives the same responses.
        """
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
    """Return `weights` divided by their sum.

    Raises `ResponseError` unless they are finite, not negative and not all zero.
    """
    values = np.asarray(weights, np.float64)
    total = values.sum()
    if not (np.isfinite(total) and total > 0 and (values >= 0).all()):
        raise ResponseError("weights must be finite, not negative, and not all zero")
    shares: NDArray[np.float64] = values / total
    return shares
