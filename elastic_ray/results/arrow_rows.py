"""Rows as they come, made into Arrow tables as declared, or refused.

Checked before anything is written: unknown and missing columns, wrong types, repeated keys, numbers
that are not finite. `ResultsError` names table, column, row and value.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from .schemas import ResultsError, Table, nearest

Rows: TypeAlias = Sequence[Mapping[str, Any]] | pa.Table


def to_table(table: Table, rows: Rows, fixed: Mapping[str, Any]) -> pa.Table:
    """`rows` as an Arrow table in the declared schema, sorted by key; `fixed` fills its columns.

    A column that `rows` leaves out is null, or refused where the schema does not allow null. A
    column in both must agree with `fixed`.
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
    _refuse_repeats(table, result)
    return result.sort_by([(name, "ascending") for name in table.key])


def _column(
    table: Table,
    field: pa.Field,
    rows: Rows,
    fixed: Mapping[str, Any],
    given: bool,
) -> pa.Array | pa.ChunkedArray:
    where = f"{table.name}.{field.name}"
    if isinstance(rows, pa.Table):
        count = rows.num_rows
        values = rows[field.name] if given else [fixed.get(field.name)] * count
    else:
        values = [row.get(field.name, fixed.get(field.name)) for row in rows]
    if field.name in table.json:
        values = [_json(value) for value in values]
    try:
        if isinstance(values, pa.ChunkedArray):
            column = values.cast(field.type)
        else:
            column = pa.array(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as e:
        raise ResultsError(f"{where}: {_culprit(values, field)} is not {field.type} ({e})") from e
    if field.type.equals(pa.timestamp("us", tz="UTC")) and not isinstance(values, pa.ChunkedArray):
        for row, value in enumerate(values):
            if isinstance(value, dt.datetime) and value.tzinfo is None:
                raise ResultsError(f"{where}: row {row} has no time zone ({value}); give UTC")
    _check(table, field, column, fixed)
    return column


def _check(
    table: Table, field: pa.Field, column: pa.Array | pa.ChunkedArray, fixed: Mapping[str, Any]
) -> None:
    where = f"{table.name}.{field.name}"
    if not field.nullable and column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise ResultsError(f"{where}: row {row} has no value, and the column must have one")
    if field.name in table.finite and column.null_count < len(column):
        unsound = pc.fill_null(pc.invert(pc.is_finite(column)), False)
        if pc.any(unsound).as_py():
            row = pc.index(unsound, True).as_py()
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


def _refuse_repeats(table: Table, rows: pa.Table) -> None:
    groups = rows.group_by(list(table.key)).aggregate([([], "count_all")])
    if groups.num_rows < rows.num_rows:
        repeated = groups.filter(pc.greater(groups["count_all"], 1)).slice(0, 1).to_pylist()[0]
        count = repeated.pop("count_all")
        raise ResultsError(f"{table.name}: {count} rows have the same key {repeated}")


def _json(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as e:
        raise ResultsError(f"not JSON: {value!r} ({e})") from e


def _culprit(values: Any, field: pa.Field) -> str:
    for row, value in enumerate(values):
        try:
            pa.array([value], field.type)
        except (pa.ArrowException, OverflowError):
            return f"row {row}, {value!r},"
    return "a value"


def same_rows(a: pa.Table, b: pa.Table) -> bool:
    """Whether two tables of one schema hold equal rows in order; NaN equals NaN."""
    if a.num_rows != b.num_rows:
        return False
    return a.equals(b) or all(
        _same(x, y)
        for left, right in zip(a.to_pylist(), b.to_pylist(), strict=True)
        for x, y in zip(left.values(), right.values(), strict=True)
    )


def _same(x: Any, y: Any) -> bool:
    if isinstance(x, list) and isinstance(y, list):
        return len(x) == len(y) and all(map(_same, x, y))
    if isinstance(x, float) and isinstance(y, float) and math.isnan(x) and math.isnan(y):
        return True
    return bool(x == y)
