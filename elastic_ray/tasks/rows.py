"""Reads the rows of one data file: Parquet, JSON, JSON lines, CSV or TSV, compressed or not.

Only the wanted columns are looked at, whatever the others hold, and rows of any length are read.
Values of CSV files are texts; JSON and Parquet keep their types. Names of columns keep their case.
What cannot be read raises `FileProblem` with the row or line: a file is read whole or not at all.

Texts are read here rather than by DuckDB or Arrow. DuckDB 2.0 takes a truncated zstd file for a
shorter one and ignores the case of names; Arrow refuses rows longer than a block, and takes texts
that look like dates for dates.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import itertools
import json
import lzma
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Values = dict[str, Any]
"""The wanted values of one row, by column; None where the row has none."""

FORMATS = ("parquet", "jsonl", "csv", "json", "ndjson", "tsv")
"""Extensions of the supported files."""
COMPRESSIONS = ("gz", "zst", "bz2", "xz")
"""Second extensions, of compressed JSON, CSV and TSV files."""
DELIMITERS = ",;\t|"
"""Delimiters of CSV files: the first one is used by which the header holds the wanted columns."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class FileProblem(ValueError):
    """What makes a file unusable, with the row or line; the caller adds the file's name."""


def read_rows(path: Path, names: Sequence[str]) -> Iterator[Values]:
    """Yield the values of the columns `names` of every row of a file, in order.

    Raises `FileProblem` for a missing column, one that is there twice, and anything unreadable.
    """
    kind, compression = _kind(path)
    row = -1
    try:
        if kind == "parquet":
            rows = _parquet(path, names)
        else:
            with _opened(path, compression, universal=kind in ("csv", "tsv")) as text:
                rows = _separated(text, names) if kind in ("csv", "tsv") else _json(text, names)
                for row, values in enumerate(rows):
                    yield _checked(row, values)
            return
        for row, values in enumerate(rows):
            yield _checked(row, values)
    except _UNREADABLE as e:
        raise _problem(e, row) from None


def column_names(path: Path) -> list[str]:
    """Return the names of a file's columns, in order; of JSON, the keys of all rows.

    Raises `FileProblem` for a file that cannot be read.
    """
    kind, compression = _kind(path)
    try:
        if kind == "parquet":
            import pyarrow.parquet

            with pyarrow.parquet.ParquetFile(path) as file:
                return list(file.schema_arrow.names)
        with _opened(path, compression, universal=kind in ("csv", "tsv")) as text:
            if kind in ("csv", "tsv"):
                first = next((line for line in text if line.strip()), "")
                heads = [_fields(first, mark) for mark in DELIMITERS]
                return max(heads, key=len)
            names: dict[str, None] = {}
            for _, row in _json_rows(text, ()):
                names.update(dict.fromkeys(row if isinstance(row, dict) else ()))
            return list(names)
    except _UNREADABLE as e:
        raise _problem(e, -1) from None


_UNREADABLE = (OSError, EOFError, ValueError, RecursionError, csv.Error, lzma.LZMAError)
"""What the readers raise for damaged files."""


def _kind(path: Path) -> tuple[str, str | None]:
    """Return a file's format, and its compression if it has one, from its name."""
    name = path.name.lower()
    compression = next((each for each in COMPRESSIONS if name.endswith(f".{each}")), None)
    return name.removesuffix(f".{compression}").rpartition(".")[2], compression


def _problem(error: BaseException, row: int) -> FileProblem:
    """Return what to say of a file that cannot be read after `row` rows."""
    if isinstance(error, FileProblem):
        return error
    where = f"after row {row}: " if row >= 0 else ""
    if isinstance(error, UnicodeDecodeError):
        return FileProblem(
            f"cannot be read: {where}not {error.encoding} ({error.reason}); "
            "convert it to UTF-8, e.g. with iconv -f latin1 -t utf-8"
        )
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return FileProblem(f"cannot be read: {where}{reason}")


def _checked(row: int, values: Values) -> Values:
    """Return the values; raise `FileProblem` for text that is no Unicode text."""
    for name, value in values.items():
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise FileProblem(
                    f"row {row}: {name}: holds half of a surrogate pair, which is no character"
                ) from None
    return values


def select(columns: Iterable[str], names: Sequence[str]) -> None:
    """Raise `FileProblem` unless each of `names` is exactly once among `columns`."""
    held = list(columns)
    for name in names:
        if name not in held:
            raise FileProblem(f"no column {name!r}; it has {', '.join(held[:20]) or 'none'}")
        if held.count(name) > 1:
            raise FileProblem(f"column {name!r} is there {held.count(name)} times; keep one")


def _parquet(path: Path, names: Sequence[str]) -> Iterator[Values]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        select(file.schema_arrow.names, names)
        for batch in file.iter_batches(batch_size=1024, columns=list(names)):
            columns = [map(_decoded, batch.column(name).to_pylist()) for name in names]
            for values in zip(*columns, strict=True):
                yield dict(zip(names, values, strict=True))


def _decoded(value: Any) -> Any:
    """Return the text of bytes: some writers mark no column as text."""
    return value.decode() if isinstance(value, bytes) else value


def _opened(path: Path, compression: str | None, universal: bool) -> io.TextIOWrapper:
    """Return the decompressed, decoded text of a file, by its byte order mark, else UTF-8.

    Lines end with a line feed; in `universal` mode they keep the ends that they have.
    """
    file = io.BufferedReader(_decompressed(path, compression))
    start = file.peek(4)[:4]
    if not start:
        raise FileProblem("cannot be read: it is empty")
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in start:
        raise FileProblem(
            "cannot be read: it is no text (it begins with a zero byte), or UTF-16 without a byte "
            "order mark; convert it to UTF-8"
        )
    return io.TextIOWrapper(file, encoding, newline="" if universal else "\n")


def _decompressed(path: Path, compression: str | None) -> Any:
    """Return the decompressed bytes of a file, as a raw stream."""
    if compression == "gz":
        return gzip.open(path)
    if compression == "bz2":
        return bz2.open(path)
    if compression == "xz":
        return lzma.open(path)
    if compression == "zst":
        import pyarrow as pa

        return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    return path.open("rb", buffering=0)


def _separated(text: io.TextIOWrapper, names: Sequence[str]) -> Iterator[Values]:
    """Yield the rows of a CSV or TSV file; blank lines are skipped."""
    csv.field_size_limit(sys.maxsize)  # otherwise 128 kB
    first = next((line for line in text if line.strip()), "")
    heads = {mark: _fields(first, mark) for mark in DELIMITERS}
    fitting = [mark for mark, head in heads.items() if set(names) <= set(head)]
    mark = (fitting or [","])[0]
    # A header may itself hold line breaks in quotes, so the reader reads it again.
    rows = csv.reader(itertools.chain([first], text), delimiter=mark, strict=True)
    head = [name.strip() for name in next(rows, [])]
    select(head, names)
    places = {name: head.index(name) for name in names}
    for fields in rows:
        if not fields:
            continue
        if len(fields) != len(head):
            raise FileProblem(
                f"cannot be read: line {rows.line_num}: found {len(fields)} fields; the header has "
                f"{len(head)}"
            )
        yield {name: fields[place] for name, place in places.items()}


def _fields(line: str, delimiter: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]


class _Object(dict[str, Any]):
    """A JSON object that knows which of its keys were given twice."""

    twice: frozenset[str] = frozenset()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        found.twice = frozenset(key for key in keys if keys.count(key) > 1)
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _json_rows(text: io.TextIOWrapper, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield where each row of a JSON file is, and the row: an object per line, or of one value."""
    lines = ((i, line) for i, line in enumerate(text, start=1) if line.strip())
    number, first = next(lines, (0, ""))
    if not first:
        raise FileProblem("cannot be read: it holds no rows")
    second = None
    try:
        value = _DECODER.decode(first.strip())
        second = next(lines, None)
        whole = second is None and _holds_rows(value, names)
    except ValueError:
        # The first line is no value of its own: the file is one value over many lines.
        whole = True
        rest = "".join(line for _, line in lines)
        if not rest:
            raise
        value = _DECODER.decode((first + rest).strip())
    if whole:
        yield from ((f"row {i}", row) for i, row in enumerate(_rows_of(value, names)))
        return
    yield f"line {number}", value
    for i, line in itertools.chain([second] if second else [], lines):
        yield f"line {i}", _line(i, line)


def _json(text: io.TextIOWrapper, names: Sequence[str]) -> Iterator[Values]:
    """Yield the wanted values of the rows of a JSON file."""
    seen: set[str] = set()
    held: dict[str, None] = {}
    waiting: list[Values] = []  # rows until each column was seen: those of no row are told first
    for where, row in _json_rows(text, names):
        if not isinstance(row, dict):
            raise FileProblem(
                f"cannot be read: {where}: found {type(row).__name__}; an object is needed"
            )
        for name in getattr(row, "twice", frozenset()) & set(names):
            raise FileProblem(f"{where}: {name!r} is there twice; keep one")
        if len(seen) < len(names):
            seen.update(name for name in names if name in row)
            if len(held) < 100:
                held.update(dict.fromkeys(row))
            waiting.append({name: row.get(name) for name in names})
            if len(seen) < len(names):
                continue
            yield from waiting
            waiting.clear()
        else:
            yield {name: row.get(name) for name in names}
    select(dict.fromkeys([*held, *seen]), names)


def _line(number: int, line: str) -> Any:
    try:
        return _DECODER.decode(line.strip())
    except ValueError as e:
        raise FileProblem(f"cannot be read: line {number}: no JSON ({e})") from None


def _holds_rows(value: Any, names: Sequence[str]) -> bool:
    """Return whether the only value of a file holds its rows, rather than being the only row."""
    if not isinstance(value, dict):
        return isinstance(value, list)
    columns = [value[name] for name in names if name in value]
    if columns:
        return all(isinstance(each, (list, dict)) for each in columns)
    return len(_lists_of_rows(value)) == 1


def _lists_of_rows(value: dict[str, Any]) -> list[list[Any]]:
    lists = (each for each in value.values() if isinstance(each, list) and each)
    return [each for each in lists if all(isinstance(row, dict) for row in each)]


def _rows_of(value: Any, names: Sequence[str]) -> Sequence[Any]:
    """Return the rows of a value: a list of them, lists by column, or an object with one list."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        columns = {name: _column(value[name]) for name in names if name in value}
        if columns and all(column is not None for column in columns.values()):
            select(value, names)
            lengths = {len(column or ()) for column in columns.values()}
            if len(lengths) > 1:
                raise FileProblem(f"cannot be read: columns of {sorted(lengths)} rows")
            listed = zip(*(column or () for column in columns.values()), strict=True)
            return [dict(zip(columns, row, strict=True)) for row in listed]
        if len(lists := _lists_of_rows(value)) == 1:
            return lists[0]
        if columns:
            return [value]
    raise FileProblem(
        "cannot be read: found one JSON value; rows are needed: a list of objects, or an object "
        "per line"
    )


def _column(value: Any) -> list[Any] | None:
    """Return a column's values: a list, or an object by row number; None for anything else."""
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else None
