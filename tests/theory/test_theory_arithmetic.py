"""The arithmetic coder is lossless under any tables, and as short as they allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_ray.theory import CodingError, Decoder, Encoder, FrequencyTable, decode, encode

VECTOR = st.lists(
    st.one_of(st.floats(0, 1), st.just(0.0), st.floats(1e-300, 1e-6)), min_size=1, max_size=30
).filter(lambda p: sum(p) > 0)


@st.composite
def messages(draw: st.DrawFn) -> tuple[list[int], list[FrequencyTable]]:
    tables, symbols = [], []
    for p in draw(st.lists(VECTOR, max_size=40)):
        total = draw(st.sampled_from([2 * len(p), 2 * len(p) + 1, 1 << 10, 1 << 32]))
        tables.append(FrequencyTable.from_probabilities(p, total))
        symbols.append(draw(st.integers(0, len(p) - 1)))
    return symbols, tables


def ideal(symbols: Sequence[int], tables: Sequence[FrequencyTable]) -> float:
    return math.fsum(t.code_length(s) for s, t in zip(symbols, tables, strict=True))


def replay(tables: Sequence[FrequencyTable]):
    return lambda so_far: tables[len(so_far)] if len(so_far) < len(tables) else None


@settings(max_examples=300)
@given(messages())
def test_symbols_are_restored_and_take_their_ideal_length_rounded_up_to_bytes(message):
    symbols, tables = message
    code = encode(symbols, tables)
    assert decode(code, replay(tables)) == symbols
    assert 8 * len(code) < ideal(symbols, tables) + len(symbols) * 2**-23 + 8


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(0, 1500), st.floats(0.01, 30))
def test_long_messages_under_a_changing_model(seed, length, sharpness):
    """Each table depends on the symbols so far, as with a language model."""

    def table(so_far: Sequence[int]) -> FrequencyTable | None:
        if len(so_far) == length:
            return None
        state = sum(so_far[-3:]) + len(so_far)
        return FrequencyTable.from_probabilities(np.exp(-sharpness * np.cos(np.arange(9) * state)))

    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, 9, length).tolist()
    tables = [t for n in range(length) if (t := table(symbols[:n])) is not None]
    code = encode(symbols, tables)
    assert decode(code, table) == symbols
    assert 8 * len(code) < ideal(symbols, tables) + length * 2**-23 + 8


@pytest.mark.parametrize("counts", [[1, 2**32 - 1], [2**32 - 1, 1], [1, 1], [1] * 3, [5, 0, 250]])
@pytest.mark.parametrize("pattern", [[0], [-1], [0, -1], [-1, -1, -1, 0]])
def test_extreme_tables_and_long_carries(counts, pattern):
    """The last symbols keep the interval at its upper end, where carries propagate far back."""
    table = FrequencyTable.from_counts(counts)
    symbols = [len(counts) - 1 if n else 0 for n in pattern] * 700
    code = encode(symbols, [table] * len(symbols))
    assert decode(code, replay([table] * len(symbols))) == symbols
    assert 8 * len(code) < ideal(symbols, [table] * len(symbols)) + len(symbols) * 2**-23 + 8


def test_empty_messages_and_certain_symbols_take_no_bytes():
    assert encode([], []) == b""
    certain = FrequencyTable.from_counts([0, 7, 0])
    assert encode([1] * 1000, [certain] * 1000) == b""
    assert decode(b"", replay([certain] * 1000)) == [1] * 1000


@given(VECTOR, st.sampled_from([64, 1000, 1 << 20, 1 << 32]))
def test_a_table_costs_no_more_than_its_total_allows(p, total):
    table = FrequencyTable.from_probabilities(p, total)
    assert table.total == total
    weight = np.asarray(p).sum()
    for symbol, share in enumerate(p):
        assert table.cumulative[symbol + 1] > table.cumulative[symbol]
        if share / weight > 0:  # the smallest floats underflow in the division
            allowed = -math.log2(share / weight) + math.log2(total / (total - len(p)))
            # rounding may cost one unit if a share is near a whole number of units
            assert table.code_length(symbol) <= allowed + 1e-9
        else:
            assert table.code_length(symbol) <= math.log2(total)


def test_tables_as_large_as_a_vocabulary():
    rng = np.random.default_rng(0)
    vectors = [rng.dirichlet(np.full(150_000, 0.01)) for _ in range(6)]
    tables = [FrequencyTable.from_probabilities(p) for p in vectors]
    symbols = [int(rng.choice(len(p), p=p)) for p in vectors]
    code = encode(symbols, tables)
    assert decode(code, replay(tables)) == symbols
    wanted = -sum(math.log2(p[s]) for p, s in zip(vectors, symbols, strict=True))
    assert 8 * len(code) < 1.001 * wanted + 8


def test_invalid_symbols_and_tables_raise():
    table = FrequencyTable.from_counts([1, 0, 2])
    for symbol in (-1, 1, 3):
        with pytest.raises(CodingError):
            Encoder().push(symbol, table)
    assert table.code_length(1) == math.inf
    for counts in ([0, 0], [2, -1], [2**33]):
        with pytest.raises(CodingError):
            FrequencyTable.from_counts(counts)
    with pytest.raises(CodingError, match="integers"):
        FrequencyTable.from_counts([0.5, 0.5])
    for p in ([0.0, 0.0], [math.nan], [-0.1, 1.1], []):
        with pytest.raises(CodingError):
            FrequencyTable.from_probabilities(p)
    with pytest.raises(CodingError, match="need a total"):
        FrequencyTable.from_probabilities([0.1] * 10, total=19)
    with pytest.raises(ValueError, match="shorter"):
        encode([0], [])


@given(st.binary(max_size=60))
def test_any_bytes_decode_to_possible_symbols_or_raise(code):
    table = FrequencyTable.from_counts([1, 0, 5, 10])
    decoder = Decoder(code)
    for _ in range(100):
        try:
            assert decoder.pull(table) in (0, 2, 3)
        except CodingError:
            break
