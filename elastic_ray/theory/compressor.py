"""A lossless text compressor that is driven by a language model's predictions (section 2.2).

`compress` splits a text into pieces. A piece that the model's tokenizer restores exactly is coded
token by token, under the model's probabilities. Any other piece is coded as bytes of 8 bits each:
an escape symbol next to the vocabulary announces them, followed by a number that is one more than
the number of bytes. The number 0 ends the text. The model sees one window of tokens at a time, as
in `serving.engines.code_length`; each window starts with the model's first token. A text of tokens
only therefore takes the model's code length, plus three bytes at the end and a header of six bytes.

`decompress` needs the same model and the same probabilities, to the last bit: the same type of
machine and the same libraries. A checksum detects a mismatch.
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
"""First bytes of a compressed file. They are not valid UTF-8, so no text starts with them."""
ESCAPE_BITS = 16
"""Code length of the escape symbol (bits). It costs every token 2^-16 / ln 2 bits."""
_BYTE_TABLE = FrequencyTable.from_counts(np.ones(256, np.int64))
_HEADER_BYTES = len(MAGIC) + 4
_MAX_BYTES_PAST_END = 64
"""Limit on reading past the end of a code. An intact code ends before it is reached."""


class TokenPredictor(Protocol):
    """A language model with its tokenizer, as the compressor needs it."""

    window: int
    """Number of tokens that the model sees at once, including the first token."""

    def begin(self) -> Floats:
        """Start over with the first token; return the next token's probabilities [vocabulary]."""
        ...

    def take(self, token: int) -> Floats:
        """Append a token; return the next token's probabilities [vocabulary]."""
        ...

    def encode(self, text: str) -> list[int] | None:
        """Return the tokens of a text, or None if `decode` would not restore it exactly."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        ...


@dataclass(frozen=True)
class Compressed:
    """A compressed text.

    `code` is the content of the compressed file. `bits` is the code length of its symbols under
    the model, before rounding to bytes and without the header.
    """

    code: bytes
    bits: float


def compress(data: bytes, model: TokenPredictor, source: str = "the input") -> Compressed:
    """Compress a UTF-8 text.

    `source` names the input in messages. Raises `CodingError` if `data` is not UTF-8 text.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        raise CodingError(
            f"{source} is not UTF-8 text: byte {e.start} is {data[e.start]:#04x}"
        ) from None
    encoder, window, bits = Encoder(), _ModelWindow(model), 0.0
    for piece in chain(split_text(text, model), [None]):
        if piece is None or isinstance(piece, bytes):
            bits += window.table.code_length(window.escape)
            encoder.push(window.escape, window.table)
            raw = _encode_number(0) if piece is None else [*_encode_number(len(piece) + 1), *piece]
            for byte in raw:
                encoder.push(byte, _BYTE_TABLE)
                bits += 8
            continue
        for token in piece:
            bits += window.table.code_length(token)
            encoder.push(token, window.table)
            window.take(token)
    header = MAGIC + zlib.crc32(data).to_bytes(4, "big")
    return Compressed(header + encoder.finish(), bits)


def decompress(code: bytes, model: TokenPredictor, source: str = "the input") -> bytes:
    """Return the text of a code that `compress` made with the same model.

    `source` names the code in messages. Raises `CodingError` if `code` was not made by `compress`,
    is damaged, or was made with other probabilities.
    """
    if not code.startswith(MAGIC) or len(code) < _HEADER_BYTES:
        raise CodingError(f"{source} was not made by compress: it does not start with its header")
    try:
        data = _decode_pieces(Decoder(code[_HEADER_BYTES:]), model)
    except _MismatchError:
        data = None
    if data is None or zlib.crc32(data).to_bytes(4, "big") != code[len(MAGIC) : _HEADER_BYTES]:
        raise CodingError(
            f"{source} does not restore the compressed text: it is damaged, or was made with "
            "another state, or on a machine or with libraries that compute other probabilities"
        )
    return data


class _MismatchError(Exception):
    """The code does not fit the model's probabilities."""


def _decode_pieces(decoder: Decoder, model: TokenPredictor) -> bytes:
    window = _ModelWindow(model)
    data, tokens = bytearray(), list[int]()
    while True:
        if decoder.bytes_past_end > _MAX_BYTES_PAST_END:
            raise _MismatchError
        symbol = decoder.pull(window.table)
        if symbol != window.escape:
            tokens.append(symbol)
            window.take(symbol)
            continue
        data += model.decode(tokens).encode()
        tokens = []
        number = _decode_number(decoder)
        if number == 0:
            return bytes(data)
        for _ in range(number - 1):
            if decoder.bytes_past_end > _MAX_BYTES_PAST_END:
                raise _MismatchError
            data.append(decoder.pull(_BYTE_TABLE))


class _ModelWindow:
    """A model within its window.

    `table` is the frequency table of the next symbol, `escape` the symbol that announces bytes.
    """

    def __init__(self, model: TokenPredictor) -> None:
        self._model, self._tokens_left = model, 0
        self._begin()

    def _begin(self) -> None:
        self._tokens_left = self._model.window - 1
        self._set_table(self._model.begin())

    def take(self, token: int) -> None:
        """Append a token; start a new window if this one is full."""
        self._tokens_left -= 1
        if self._tokens_left:
            self._set_table(self._model.take(token))
        else:
            self._begin()

    def _set_table(self, probabilities: Floats) -> None:
        self.escape = len(probabilities)
        weights = probabilities / probabilities.sum() * (1 - 2.0**-ESCAPE_BITS)
        self.table = FrequencyTable.from_probabilities(np.append(weights, 2.0**-ESCAPE_BITS))


def split_text(text: str, model: TokenPredictor) -> Iterator[list[int] | bytes]:
    """Yield the pieces of a text in order: tokens if they restore the piece exactly, else bytes.

    A part that its tokens do not restore is halved, at a line break or white space if it has one,
    down to single characters. Adjacent runs of tokens are separated by empty bytes, because each
    run is decoded on its own.
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
    remaining = [text] if text else []
    while remaining:
        part = remaining.pop()
        tokens = model.encode(part)
        if tokens is not None:
            yield tokens
        elif len(part) == 1:
            yield part.encode()
        else:
            remaining += [half for half in reversed(_halves(part)) if half]


def _halves(text: str) -> list[str]:
    """Split a text at the line break nearest its middle: before it, the break, after it.

    Without a line break, split at white space; without either, into two halves.
    """
    middle = len(text) // 2
    places = [i for i, letter in enumerate(text) if letter == "\n"]
    places = places or [i for i, letter in enumerate(text) if letter.isspace()]
    if not places:
        return [text[:middle], text[middle:]]
    at = min(places, key=lambda place: abs(place - middle))
    return [text[:at], text[at], text[at + 1 :]]


def _encode_number(value: int) -> list[int]:
    """Return bytes of seven bits each, the lowest first; bit 8 marks that more bytes follow."""
    encoded = []
    while value > 0x7F:
        encoded.append(0x80 | value & 0x7F)
        value >>= 7
    return [*encoded, value]


def _decode_number(decoder: Decoder) -> int:
    value = shift = 0
    while True:
        byte = decoder.pull(_BYTE_TABLE)
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value
        if shift > 63:
            raise _MismatchError
