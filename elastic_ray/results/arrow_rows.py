"""Converts rows into Arrow tables of the declared schema, and compares such tables.

Rows are checked before anything is written: unknown and missing columns, wrong types, repeated
keys, numbers that are not finite. `ResultsError` names table, column, row and value.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from .errors import ResultsError
from .schemas import nearest
from .tables import Table

Rows: TypeAlias = Sequence[Mapping[str, Any]] | pa.Table


def to_table(table: Table, rows: Rows, fixed: Mapping[str, Any]) -> pa.Table:
    """Return `rows` as an Arrow table in the declared schema, sorted by key.

    `fixed` gives columns that have one value in all rows; a column that is also in `rows` must
    agree. A column that is in neither is null, or an error if the schema requires a value.
    """
    given = set(rows.column_names) if isinstance(rows, pa.Table) else {k for r in rows for k in r}
    for name in sorted(given - set(table.schema.names)):
        near = nearest(name, table.schema.names)
        raise ResultsError(
            f"table {table.name} has no column {name!r}{near}; columns: "
            + ", ".join(table.schema.names)
        )
    columns = [_column(table, field, rows, fixed, field.name in given) for field in table.schema]
    result = pa.Table.from_arrays(columns, schema=table.stored_schema)
    _check_unique(table, result)
    return result.sort_by([(name, "ascending") for name in table.key])


def _column(
    table: Table,
    field: pa.Field,
    rows: Rows,
    fixed: Mapping[str, Any],
    given: bool,
) -> pa.Array | pa.ChunkedArray:
    """Return one column in its declared type; `given` says whether `rows` have it."""
    where = f"{table.name}.{field.name}"
    if isinstance(rows, pa.Table):
        count = rows.num_rows
        values = rows[field.name] if given else [fixed.get(field.name)] * count
    else:
        values = [row.get(field.name, fixed.get(field.name)) for row in rows]
    if field.name in table.json:
        values = [_json_text(value) for value in values]
    try:
        if isinstance(values, pa.ChunkedArray):
            column = values.cast(field.type)
        else:
            column = pa.array(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as e:
        raise ResultsError(
            f"{where}: {_first_misfit(values, field)} is not {field.type} ({e})"
        ) from e
    if field.type.equals(pa.timestamp("us", tz="UTC")) and not isinstance(values, pa.ChunkedArray):
        for row, value in enumerate(values):
            if isinstance(value, dt.datetime) and value.tzinfo is None:
                raise ResultsError(f"{where}: row {row} has no time zone ({value}); give UTC")
    _check_values(table, field, column, fixed)
    return column


def _check_values(
    table: Table, field: pa.Field, column: pa.Array | pa.ChunkedArray, fixed: Mapping[str, Any]
) -> None:
    where = f"{table.name}.{field.name}"
    if not field.nullable and column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise ResultsError(f"{where}: row {row} has no value, and the column must have one")
    if field.name in table.finite and column.null_count < len(column):
        invalid = pc.fill_null(pc.invert(pc.is_finite(column)), False)
        if pc.any(invalid).as_py():
            row = pc.index(invalid, True).as_py()
            raise ResultsError(
                f"{where}: row {row} is {column[row].as_py()}; give a finite number, or null "
                "for what is not known"
            )
    if field.name in fixed:
        for value in pc.unique(column).to_pylist():
            if value != fixed[field.name]:
                raise ResultsError(
                    f"{where}: a row says {value!r}, its file is for {fixed[field.name]!r}"
                )
    allowed = (table.choices or {}).get(field.name)
    if allowed is not None:
        for value in pc.unique(column).to_pylist():
            if value not in allowed:
                raise ResultsError(f"{where}: {value!r} is not one of {', '.join(allowed)}")


def _check_unique(table: Table, rows: pa.Table) -> None:
    groups = rows.group_by(list(table.key)).aggregate([([], "count_all")])
    if groups.num_rows < rows.num_rows:
        repeated = groups.filter(pc.greater(groups["count_all"], 1)).slice(0, 1).to_pylist()[0]
        count = repeated.pop("count_all")
        raise ResultsError(f"{table.name}: {count} rows have the same key {repeated}")


def _json_text(value: Any) -> Any:
    """Return a value as JSON text; None and texts stay as they are."""
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as e:
        raise ResultsError(f"not JSON: {value!r} ({e})") from e


def _first_misfit(values: Any, field: pa.Field) -> str:
    """Describe the first value that does not fit the field's type."""
    for row, value in enumerate(values):
        try:
            pa.array([value], field.type)
        except (pa.ArrowException, OverflowError):
            return f"row {row}, {value!r},"
    return "a value"


def same_rows(a: pa.Table, b: pa.Table) -> bool:
    """Return whether two tables of one schema hold equal rows in order; NaN equals NaN."""
    if a.num_rows != b.num_rows:
        return False
    return a.equals(b) or all(
        _equal(x, y)
        for left, right in zip(a.to_pylist(), b.to_pylist(), strict=True)
        for x, y in zip(left.values(), right.values(), strict=True)
    )


def _equal(x: Any, y: Any) -> bool:
    if isinstance(x, list) and isinstance(y, list):
        return len(x) == len(y) and all(map(_equal, x, y))
    if isinstance(x, float) and isinstance(y, float) and math.isnan(x) and math.isnan(y):
        return True
    return bool(x == y)
