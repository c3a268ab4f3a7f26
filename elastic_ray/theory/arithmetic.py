"""A lossless arithmetic coder over integer frequency tables (section 2.2; Witten et al., 1987).

A `FrequencyTable` made from a probability vector can code every symbol. An `Encoder` codes symbols,
each with its own table; a `Decoder` restores them, given the same tables. The table may change with
every symbol and may depend on earlier symbols: this is how a language model drives the coder. Only
integers enter the code, so it decodes wherever the same tables can be rebuilt. Probabilities that
differ in their last bit may give a different table.

The length of a code exceeds the ideal, sum log2(total / frequency), by less than 8 bits (rounding
to bytes) plus 2^-23 bits per symbol (the finite range). It may be below the ideal, because zero
bytes at the end are not written. A table costs at most log2(total / (total - n)) bits per symbol
more than its probabilities. The code does not mark its end: the message needs a known number of
symbols, or a symbol that ends it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

STATE_BITS = 64
_TOP = 1 << STATE_BITS
_SHIFT = STATE_BITS - 8
_FLOOR = 1 << _SHIFT
"""Minimum of the range between symbols. A table's total may take 32 of its 56 bits."""

MAX_TOTAL = 1 << 32
"""Maximum sum of a table's frequencies."""


class CodingError(ValueError):
    """An invalid table, symbol or code; the message gives the reason."""


@dataclass(frozen=True, eq=False)
class FrequencyTable:
    """Frequencies of n symbols.

    `cumulative` [n+1] holds the cumulative frequencies: the frequency of symbol s is
    cumulative[s+1] - cumulative[s]. Raises `CodingError` unless they start at 0, never decrease,
    and end between 1 and 2^32.
    """

    cumulative: NDArray[np.int64]

    def __post_init__(self) -> None:
        c = self.cumulative
        if c.ndim != 1 or c.size < 2 or c[0] != 0 or not (np.diff(c) >= 0).all():
            raise CodingError("cumulative frequencies must start at 0 and never decrease")
        if not 1 <= c[-1] <= MAX_TOTAL:
            raise CodingError(f"frequencies must sum to 1 ... 2^32, not {c[-1]}")

    @classmethod
    def from_counts(cls, counts: ArrayLike) -> FrequencyTable:
        """Return the table of integer counts [n]; a symbol of count 0 cannot be coded."""
        values = np.asarray(counts)
        if not np.issubdtype(values.dtype, np.integer):
            raise CodingError("counts must be integers; use from_probabilities for probabilities")
        return cls(np.concatenate([[0], np.cumsum(values, dtype=np.int64)]))

    @classmethod
    def from_probabilities(cls, p: ArrayLike, total: int = MAX_TOTAL) -> FrequencyTable:
        """Return a table near probabilities `p` [n] (on any positive scale) that sums to `total`.

        Every symbol gets 1 + floor(p (total - n)); the likeliest one also gets the remainder. So a
        symbol costs at most log2(total / (total - n)) bits more than -log2 p, and a symbol of
        probability 0 costs log2(total) bits instead of being impossible. Raises `CodingError` if
        `p` is not finite, has a negative value or no positive one, or is longer than half of
        `total`.
        """
        values = np.asarray(p, np.float64)
        weight = values.sum()
        if values.ndim != 1 or not (np.isfinite(weight) and weight > 0 and (values >= 0).all()):
            raise CodingError("probabilities must be finite, not negative, and not all zero")
        if not 2 * values.size <= total <= MAX_TOTAL:
            raise CodingError(f"{values.size} symbols need a total of {2 * values.size} to 2^32")
        spare = total - values.size
        parts = np.floor(values / weight * spare).astype(np.int64)
        # Rounding in the division can lift the sum above `spare` by a few units.
        parts[np.argmax(parts)] += spare - int(parts.sum())
        return cls.from_counts(parts + 1)

    @property
    def total(self) -> int:
        """The sum of the frequencies."""
        return int(self.cumulative[-1])

    def code_length(self, symbol: int) -> float:
        """Return log2(total / frequency) in bits; infinite for a frequency of 0."""
        frequency = int(self.cumulative[symbol + 1] - self.cumulative[symbol])
        return math.log2(self.total / frequency) if frequency else math.inf


class Encoder:
    """Narrows an interval of [0, 1) symbol by symbol and writes its leading bytes.

    The state is (low, range): the interval, scaled up by the bytes already written. A carry out of
    `low` propagates back through the written bytes; pending 0xFF bytes are counted, not stored.
    """

    def __init__(self) -> None:
        self._low = 0
        self._range = _TOP
        self._written = bytearray()
        self._pending = 0
        self._held = -1  # the last byte below 0xFF: a carry may still increment it

    def push(self, symbol: int, table: FrequencyTable) -> None:
        """Code one symbol. Raises `CodingError` if the table lacks it or its frequency is 0."""
        if not 0 <= symbol < table.cumulative.size - 1:
            raise CodingError(f"the table has no symbol {symbol}")
        first, after = int(table.cumulative[symbol]), int(table.cumulative[symbol + 1])
        if first == after:
            raise CodingError(f"symbol {symbol} has frequency 0")
        unit, rest = divmod(self._range, table.total)
        self._low += unit * first
        # The last symbol gets the remainder of the division, so that no range is lost.
        self._range = unit * (after - first) + (rest if after == table.total else 0)
        while self._range <= _FLOOR:
            self._shift()
            self._range <<= 8

    def finish(self) -> bytes:
        """Return the code: the fewest bytes that, followed by zeros, lie in the interval."""
        for kept in range(9):
            unit = 1 << (8 * (8 - kept))
            candidate = -(-self._low // unit) * unit
            if candidate < self._low + self._range:
                break
        self._low = candidate
        for _ in range(kept + 1):  # one more for the byte in `_held`
            self._shift()
        self._emit(0)
        return bytes(self._written).rstrip(b"\0")

    def _shift(self) -> None:
        carry, rest = divmod(self._low, _TOP)
        byte = rest >> _SHIFT
        if carry or byte != 0xFF:
            self._emit(carry)
            self._held = byte
        else:
            self._pending += 1
        self._low = (rest & (_FLOOR - 1)) << 8

    def _emit(self, carry: int) -> None:
        if self._held >= 0:
            self._written.append(self._held + carry)
        self._written.extend(bytes([(0xFF + carry) & 0xFF]) * self._pending)
        self._pending = 0


class Decoder:
    """Restores the symbols that an `Encoder` wrote, given the same tables in the same order.

    Bytes past the end of the code read as zeros. With other tables the decoder returns wrong
    symbols or raises `CodingError`. It cannot detect every mismatch, so a file format should
    include a checksum.
    """

    def __init__(self, code: bytes) -> None:
        self._code = code
        self._next = STATE_BITS // 8
        self._value = int.from_bytes(code[: self._next].ljust(self._next, b"\0"), "big")
        self._range = _TOP

    @property
    def bytes_past_end(self) -> int:
        """The number of bytes that were read past the end of the code."""
        return max(0, self._next - len(self._code))

    def pull(self, table: FrequencyTable) -> int:
        """Return the next symbol under `table`. Raises `CodingError` if there is none."""
        unit, rest = divmod(self._range, table.total)
        target = min(self._value // unit, table.total - 1)
        symbol = int(np.searchsorted(table.cumulative, target, side="right")) - 1
        first, after = int(table.cumulative[symbol]), int(table.cumulative[symbol + 1])
        self._value -= unit * first
        self._range = unit * (after - first) + (rest if after == table.total else 0)
        if not 0 <= self._value < self._range:
            raise CodingError("the code was not made with these tables")
        while self._range <= _FLOOR:
            byte = self._code[self._next] if self._next < len(self._code) else 0
            self._value = (self._value << 8) | byte
            self._next += 1
            self._range <<= 8
        return symbol


def encode(symbols: Iterable[int], tables: Iterable[FrequencyTable]) -> bytes:
    """Return the code of `symbols`, each under its own table.

    Raises `ValueError` if there are not as many tables as symbols.
    """
    encoder = Encoder()
    for symbol, table in zip(symbols, tables, strict=True):
        encoder.push(symbol, table)
    return encoder.finish()


def decode(code: bytes, next_table: Callable[[Sequence[int]], FrequencyTable | None]) -> list[int]:
    """Return the symbols of `code`.

    `next_table` is called with the symbols so far and returns the next table, or None at the end.
    """
    decoder = Decoder(code)
    symbols: list[int] = []
    while (table := next_table(symbols)) is not None:
        symbols.append(decoder.pull(table))
    return symbols
