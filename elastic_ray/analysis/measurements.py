"""Measures the curves and paths of a sweep, and records the measurements."""

from __future__ import annotations

from typing import Any

from ..elasticity import ElasticityError, comparison_rows, curves, index_rows, paths
from ..results.schemas import ResultsError
from ..results.store import Results


def measure_curves(results: Results, sweep: str) -> list[dict[str, Any]]:
    """Measure every curve of the sweep, record it, and return the rows of `indices`."""
    cells = results.query("FROM cell_scores_in($sweep)", {"sweep": sweep})
    try:
        rows = index_rows(curves(results.score_rows(sweep), sweep=sweep, cells=cells))
    except ElasticityError as e:
        raise ResultsError(f"the curves of {sweep} cannot be measured: {e}") from e
    results.replace("indices", sweep, rows)
    return rows


def measure_paths(results: Results, sweep: str) -> list[dict[str, Any]]:
    """Compare the sweep's inverse and forward paths, record it, and return the rows of `paths`.

    Nothing is recorded of a sweep without lessons.
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
