"""A lossless compressor of texts, driven by what a language model expects next (section 2.2).

A text is cut into pieces that the model's tokens give back exactly, and bytes that they do not.
Tokens are coded under the model's probabilities; a symbol beside the vocabulary announces bytes,
one fewer than the number after it says, each in 8 bits; the number 0 ends the text. As in
`serving.coding` the model sees a window at a time, each after its first token. So a text of tokens
only takes what the model's code length says, but for three bytes at the end and a header of six.

The code is read back by the same model where it computes the same probabilities, to the last bit:
on the same kind of machine, with the same libraries. A checksum tells if it did not.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Protocol

import numpy as np

from .arithmetic import CodingError, Decoder, Encoder, FrequencyTable
from .rates import Floats

MAGIC = b"\xe5\x01"
"""No text in UTF-8 begins so."""
ESCAPE_BITS = 16
"""Of the symbol that announces bytes: it costs every token 2^-16 / ln 2 bits."""
_BYTE = FrequencyTable.from_counts(np.ones(256, np.int64))
_HEADER = len(MAGIC) + 4
_BEYOND = 64
"""Bytes after its end that a code may be read for; the end mark lies before."""


class TokenPredictor(Protocol):
    """A language model and its tokens."""

    window: int
    """Tokens seen at once, the given first one among them."""

    def begin(self) -> Floats:
        """See the first token alone; [vocabulary] probabilities of what follows."""
        ...

    def take(self, token: int) -> Floats:
        """See one more token; [vocabulary] probabilities of what follows."""
        ...

    def encode(self, text: str) -> list[int] | None:
        """The tokens of a text, None where `decode` would not give it back."""
        ...

    def decode(self, tokens: Sequence[int]) -> str: ...


@dataclass(frozen=True)
class Compressed:
    """`code`, and the `bits` of its symbols under the model: what it would be without rounding."""

    code: bytes
    bits: float


def compress(data: bytes, model: TokenPredictor) -> Compressed:
    """The code of a text in UTF-8; `CodingError` for bytes that are none."""
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        raise CodingError(f"no text in UTF-8: byte {e.start} is {data[e.start]:#04x}") from None
    encoder, seen, bits = Encoder(), _Seen(model), 0.0
    for piece in chain(split_text(text, model), [None]):
        if piece is None or isinstance(piece, bytes):
            bits += seen.table.code_length(seen.escape)
            encoder.push(seen.escape, seen.table)
            coded = _number(0) if piece is None else [*_number(len(piece) + 1), *piece]
            for byte in coded:
                encoder.push(byte, _BYTE)
                bits += 8
            continue
        for token in piece:
            bits += seen.table.code_length(token)
            encoder.push(token, seen.table)
            seen.take(token)
    header = MAGIC + zlib.crc32(data).to_bytes(4, "big")
    return Compressed(header + encoder.finish(), bits)


def decompress(code: bytes, model: TokenPredictor) -> bytes:
    """The text of a code that `compress` made with the same model; else `CodingError`."""
    if not code.startswith(MAGIC) or len(code) < _HEADER:
        raise CodingError("not made by compress: it begins otherwise")
    decoder, seen = Decoder(code[_HEADER:]), _Seen(model)
    found, run = bytearray(), list[int]()
    while True:
        if decoder.beyond > _BEYOND:
            raise CodingError(_ANOTHER)
        symbol = decoder.pull(seen.table)
        if symbol != seen.escape:
            run.append(symbol)
            seen.take(symbol)
            continue
        found += model.decode(run).encode()
        run = []
        number = _read_number(decoder)
        if number == 0:
            break
        for _ in range(number - 1):
            if decoder.beyond > _BEYOND:
                raise CodingError(_ANOTHER)
            found.append(decoder.pull(_BYTE))
    if zlib.crc32(found).to_bytes(4, "big") != code[len(MAGIC) : _HEADER]:
        raise CodingError(_ANOTHER)
    return bytes(found)


_ANOTHER = (
    "the code gives another text than was compressed: it is damaged, was made with another state, "
    "or on a machine or with libraries that compute other probabilities"
)


class _Seen:
    """The model within its window, and the table of the symbol that comes next."""

    def __init__(self, model: TokenPredictor) -> None:
        self._model, self._left = model, 0
        self._begin()

    def _begin(self) -> None:
        self._left = self._model.window - 1
        self._next(self._model.begin())

    def take(self, token: int) -> None:
        self._left -= 1
        if self._left:
            self._next(self._model.take(token))
        else:
            self._begin()

    def _next(self, probabilities: Floats) -> None:
        self.escape = len(probabilities)
        weights = probabilities / probabilities.sum() * (1 - 2.0**-ESCAPE_BITS)
        self.table = FrequencyTable.from_probabilities(np.append(weights, 2.0**-ESCAPE_BITS))


def split_text(text: str, model: TokenPredictor) -> Iterator[list[int] | bytes]:
    """The text in order, as tokens where these give it back, else as bytes.

    What cannot be given back is halved, at a line break or white space if there is one, down to a
    character.
    Tokens that follow tokens have no bytes between them, since both are given back apart.
    """
    for as_bytes, group in groupby(_cut(text, model), lambda piece: isinstance(piece, bytes)):
        if as_bytes:
            yield b"".join(piece for piece in group if isinstance(piece, bytes))
        else:
            for i, piece in enumerate(group):
                if i:
                    yield b""
                yield piece


def _cut(text: str, model: TokenPredictor) -> Iterator[list[int] | bytes]:
    left = [text] if text else []
    while left:
        part = left.pop()
        tokens = model.encode(part)
        if tokens is not None:
            yield tokens
        elif len(part) == 1:
            yield part.encode()
        else:
            left += [half for half in reversed(_halves(part)) if half]


def _halves(text: str) -> list[str]:
    """Before, at, and after the line break, or else the white space, nearest the middle; without
    either, two halves."""
    middle = len(text) // 2
    places = [i for i, letter in enumerate(text) if letter == "\n"]
    places = places or [i for i, letter in enumerate(text) if letter.isspace()]
    if not places:
        return [text[:middle], text[middle:]]
    at = min(places, key=lambda place: abs(place - middle))
    return [text[:at], text[at], text[at + 1 :]]


def _number(value: int) -> list[int]:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    found = []
    while value > 0x7F:
        found.append(0x80 | value & 0x7F)
        value >>= 7
    return [*found, value]


def _read_number(decoder: Decoder) -> int:
    value = shift = 0
    while True:
        byte = decoder.pull(_BYTE)
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value
        if shift > 63:
            raise CodingError(_ANOTHER)
