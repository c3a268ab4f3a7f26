"""A lossless arithmetic coder over integer frequency tables (section 2.2; Witten et al., 1987).

A probability vector becomes a `FrequencyTable`, all of whose symbols can be coded; an `Encoder`
takes symbols, each with the table in force, and a `Decoder` takes the same tables and gives the
symbols back. Tables may change with every symbol and may depend on the symbols before it, which is
how a language model drives it. Only integers enter the code, so it decodes wherever the same
tables can be made again: probabilities that differ in their last bit may give another table.

The length is within 8 bits (the rounding to bytes) of the ideal, sum log2(total / frequency), but
for 2^-23 bits a symbol from the finite range; it may fall short of it, since zeros at the end are
not written. A table loses at most log2(total / (total - n)) bits
a symbol against its probabilities. The code does not say where it ends: the message has a known
number of symbols, or a symbol that ends it.
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
"""The range is at least this between symbols: a table's total may take 32 of its 56 bits."""

MAX_TOTAL = 1 << 32


class CodingError(ValueError):
    """A table, a symbol or a code that cannot be; the message says why."""


@dataclass(frozen=True, eq=False)
class FrequencyTable:
    """`cumulative` [n+1], int64: symbol s has the frequencies from cumulative[s] to [s+1].

    Raises `CodingError` unless it starts at 0, does not fall, and ends between 1 and 2^32.
    """

    cumulative: NDArray[np.int64]

    def __post_init__(self) -> None:
        c = self.cumulative
        if c.ndim != 1 or c.size < 2 or c[0] != 0 or not (np.diff(c) >= 0).all():
            raise CodingError("cumulative frequencies start at 0 and never fall")
        if not 1 <= c[-1] <= MAX_TOTAL:
            raise CodingError(f"frequencies must sum to 1 ... 2^32, not {c[-1]}")

    @classmethod
    def from_counts(cls, counts: ArrayLike) -> FrequencyTable:
        """The counts themselves [n]; a symbol of count 0 cannot be coded."""
        values = np.asarray(counts)
        if not np.issubdtype(values.dtype, np.integer):
            raise CodingError("counts are integers; use from_probabilities for probabilities")
        return cls(np.concatenate([[0], np.cumsum(values, dtype=np.int64)]))

    @classmethod
    def from_probabilities(cls, p: ArrayLike, total: int = MAX_TOTAL) -> FrequencyTable:
        """Integers near `p` [n] (any positive scale), at least 1 each, that sum to `total`.

        Every symbol gets 1 + floor(p (total - n)), and the likeliest one what is left. So none
        costs more than log2(total / (total - n)) bits above -log2 p, and a symbol of probability 0
        is coded in log2(total) bits rather than not at all. Raises `CodingError` on a vector that
        is not finite, not positive anywhere, or longer than half of `total`.
        """
        values = np.asarray(p, np.float64)
        weight = values.sum()
        if values.ndim != 1 or not (np.isfinite(weight) and weight > 0 and (values >= 0).all()):
            raise CodingError("probabilities must be finite, not negative, and not all zero")
        if not 2 * values.size <= total <= MAX_TOTAL:
            raise CodingError(f"{values.size} symbols need a total of {2 * values.size} to 2^32")
        spare = total - values.size
        parts = np.floor(values / weight * spare).astype(np.int64)
        # rounding up in the division can take the sum past `spare` by a few units
        parts[np.argmax(parts)] += spare - int(parts.sum())
        return cls.from_counts(parts + 1)

    @property
    def total(self) -> int:
        """The sum of the frequencies."""
        return int(self.cumulative[-1])

    def code_length(self, symbol: int) -> float:
        """Bits: log2(total / frequency), infinite for a frequency of 0."""
        frequency = int(self.cumulative[symbol + 1] - self.cumulative[symbol])
        return math.log2(self.total / frequency) if frequency else math.inf


class Encoder:
    """Narrows an interval of the unit line symbol by symbol and writes its leading bytes.

    The state is (low, range): the interval, scaled by what has been written. A carry out of `low`
    runs back through the written bytes; pending 0xFF bytes are counted, not kept.
    """

    def __init__(self) -> None:
        self._low = 0
        self._range = _TOP
        self._written = bytearray()
        self._pending = 0
        self._held = -1  # the last byte below 0xFF, which a carry may still raise

    def push(self, symbol: int, table: FrequencyTable) -> None:
        """Code one symbol. Raises `CodingError` if the table has no room for it."""
        if not 0 <= symbol < table.cumulative.size - 1:
            raise CodingError(f"the table has no symbol {symbol}")
        first, after = int(table.cumulative[symbol]), int(table.cumulative[symbol + 1])
        if first == after:
            raise CodingError(f"symbol {symbol} has frequency 0")
        unit, rest = divmod(self._range, table.total)
        self._low += unit * first
        # the last symbol takes the remainder of the division, so that no range is lost
        self._range = unit * (after - first) + (rest if after == table.total else 0)
        while self._range <= _FLOOR:
            self._shift()
            self._range <<= 8

    def finish(self) -> bytes:
        """The code, at the end: the fewest bytes that, followed by zeros, lie in the interval."""
        for kept in range(9):
            unit = 1 << (8 * (8 - kept))
            candidate = -(-self._low // unit) * unit
            if candidate < self._low + self._range:
                break
        self._low = candidate
        for _ in range(kept + 1):  # one more: the byte that is held back
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
    """Reads back what an `Encoder` wrote, given the same tables in the same order.

    Bytes beyond the end read as zeros. A code made with other tables gives other symbols, or
    `CodingError`; it cannot be told apart in general, so a container should keep a checksum.
    """

    def __init__(self, code: bytes) -> None:
        self._code = code
        self._next = STATE_BITS // 8
        self._value = int.from_bytes(code[: self._next].ljust(self._next, b"\0"), "big")
        self._range = _TOP

    @property
    def beyond(self) -> int:
        """Bytes that were read past the end of the code."""
        return max(0, self._next - len(self._code))

    def pull(self, table: FrequencyTable) -> int:
        """The next symbol under `table`."""
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
    """The code of `symbols`, each under its own table. Raises `ValueError` if one runs out."""
    encoder = Encoder()
    for symbol, table in zip(symbols, tables, strict=True):
        encoder.push(symbol, table)
    return encoder.finish()


def decode(code: bytes, next_table: Callable[[Sequence[int]], FrequencyTable | None]) -> list[int]:
    """The symbols of `code`; `next_table` gets those so far, and returns None at the end."""
    decoder = Decoder(code)
    symbols: list[int] = []
    while (table := next_table(symbols)) is not None:
        symbols.append(decoder.pull(table))
    return symbols
