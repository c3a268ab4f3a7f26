"""Reads a sweep's results and measures its curves, paths and code lengths.

This is the only place that does so: the sweep command, the app, the report and notebooks call it,
and therefore show the same numbers. The statistics are those of `elasticity` and `theory`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from ..elasticity import (
    Curve,
    ElasticityError,
    Measurement,
    comparison_rows,
    curves,
    measure,
    paths,
)
from ..results.errors import ResultsError
from ..results.statements import Connection
from ..results.store import Results
from ..spec import CORPORA
from ..theory import (
    CodeLengthCurve,
    MeasuredError,
    gather_code_lengths,
    measure_code_lengths,
)

Row: TypeAlias = dict[str, Any]

RESAMPLES = 1000
"""Bootstrap resamples behind each recorded interval."""


def read_curves(
    results: Results, sweep: str, connection: Connection | None = None
) -> tuple[list[Curve], list[Row]]:
    """Return the sweep's curves, and its rows of the view `cell_scores` in sorted order.

    `connection` is one of `results.connect`, for example with a memory limit; by default each
    query opens its own. Raises `ResultsError` for damaged results and for scores that do not form
    curves.
    """
    at = {"sweep": sweep}
    cells = results.query("FROM cell_scores_in($sweep) ORDER BY ALL", at, connection).to_pylist()
    scores = results.score_rows(sweep, connection)
    try:
        return curves(scores, sweep=sweep, cells=cells), cells
    except ElasticityError as e:
        raise ResultsError(f"the curves of {sweep} cannot be measured: {e}") from e


def measure_sweep(
    results: Results,
    sweep: str,
    *,
    resamples: int = RESAMPLES,
    connection: Connection | None = None,
) -> list[Measurement]:
    """Measure every curve of the sweep; arguments and errors are those of `read_curves`.

    `resamples` is the number of bootstrap resamples behind each interval, at least 40.
    """
    found, _ = read_curves(results, sweep, connection)
    try:
        return [measure(curve, resamples) for curve in found]
    except ElasticityError as e:
        raise ResultsError(f"the curves of {sweep} cannot be measured: {e}") from e


def record_curve_measurements(results: Results, sweep: str) -> list[Row]:
    """Measure every curve of the sweep, record the rows of the table `indices`, and return them."""
    rows = [measurement.row() for measurement in measure_sweep(results, sweep)]
    results.replace("indices", sweep, rows)
    return rows


def record_path_measurements(results: Results, sweep: str) -> list[Row]:
    """Compare the sweep's inverse and forward paths, record the rows of `paths`, and return them.

    A sweep without lessons records nothing and returns an empty list. Raises `ResultsError` for
    distances that do not form paths.
    """
    if not results.has("lessons", sweep=sweep):
        return []
    at = {"sweep": sweep}
    distances = results.query("FROM path_rows WHERE sweep = $sweep", at)
    lessons = results.query("FROM lessons WHERE sweep = $sweep", at)
    try:
        rows = comparison_rows(paths(distances, sweep=sweep, lessons=lessons))
    except ElasticityError as e:
        raise ResultsError(f"the paths of {sweep} cannot be compared: {e}") from e
    results.replace("paths", sweep, rows)
    return rows


def measure_code_length_curves(
    results: Results, sweep: str, connection: Connection | None = None
) -> list[CodeLengthCurve]:
    """Measure the sweep's code-length curves, each with its points by negative size.

    A sweep that measures no code lengths has none. Raises `ResultsError` for damaged results and
    for code lengths of one curve that are of different texts.
    """
    if not results.has("corpora", sweep=sweep):
        return []
    at = {"sweep": sweep}
    rows = results.query("FROM code_length_rows WHERE sweep = $sweep ORDER BY ALL", at, connection)
    try:
        return [
            (lengths, measure_code_lengths(lengths))
            for lengths in gather_code_lengths(rows.to_pylist(), CORPORA)
        ]
    except MeasuredError as e:
        raise ResultsError(f"the code lengths of {sweep} cannot be compared: {e}") from e
