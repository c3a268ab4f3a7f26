"""Reads a sweep's results and measures its curves, paths and code lengths.

This is the only place that does so: the sweep command, the app, the report and notebooks call it,
and therefore show the same numbers. The statistics are those of `elasticity` and `theory`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from ..elasticity import (
    RESAMPLES,
    Curve,
    ElasticityError,
    Estimate,
    Measurement,
    ScorerErrors,
    comparison_rows,
    curves,
    measure,
    paths,
    scaling,
    size_until,
    start_distance,
)
from ..results.errors import ResultsError
from ..results.statements import Connection
from ..results.store import Results
from ..spec import CORPORA, Measures, Model
from ..theory import (
    CodeLengthCurve,
    MeasuredError,
    gather_code_lengths,
    measure_code_lengths,
)
from .conclusions import Conclusion, conclude_scaling

Row: TypeAlias = dict[str, Any]


def read_curves(
    results: Results, sweep: str, connection: Connection | None = None
) -> tuple[list[Curve], list[Row]]:
    """Return the sweep's curves, and its rows of the view `cell_scores` in sorted order.

    `connection` is one of `results.connect`, for example with a memory limit; by default each
    query opens its own. The window, the families and the tokens of published checkpoints are those
    of the recorded sweep file. Raises `ResultsError` for damaged results and for scores that do not
    form curves.
    """
    at = {"sweep": sweep}
    spec = recorded_spec(results, sweep, connection) or {}
    measures = Measures.model_validate(spec.get("measures") or {})
    cells = results.query("FROM cell_scores_in($sweep) ORDER BY ALL", at, connection).to_pylist()
    scores = results.score_rows(sweep, connection)
    try:
        found = curves(scores, sweep=sweep, cells=cells, window=measures.window)
    except ElasticityError as e:
        raise ResultsError(f"the curves of {sweep} cannot be measured: {e}") from e
    errors = {c.scorer: _scorer_errors(results, c.scorer, _label(spec, c.key.task)) for c in found}
    return [_described(c, spec, errors[c.scorer]) for c in found], cells


@dataclass(frozen=True)
class BaseDistance:
    """The KL divergence from the baseline along one curve, in nats.

    `start` is that of the aligned model, `until` the negative size at which it is at most
    `epsilon`. `curve.scores` holds the divergences.
    """

    curve: Curve
    epsilon: float
    start: Estimate
    until: Estimate


def measure_base_distances(
    results: Results, sweep: str, connection: Connection | None = None
) -> list[BaseDistance]:
    """Measure the divergence from the baseline along every curve; empty if none is recorded."""
    at = {"sweep": sweep}
    rows = results.query(
        "SELECT * EXCLUDE (value), value AS score FROM base_distance_rows WHERE sweep = $sweep",
        at,
        connection,
    )
    if rows.num_rows == 0:
        return []
    spec = recorded_spec(results, sweep, connection) or {}
    epsilon = Measures.model_validate(spec.get("measures") or {}).kl_epsilon
    try:
        return [
            BaseDistance(curve, epsilon, start_distance(curve), size_until(curve, epsilon))
            for curve in curves(rows, sweep=sweep)
        ]
    except ElasticityError as e:
        raise ResultsError(f"the distances of {sweep} cannot be measured: {e}") from e


def recorded_spec(
    results: Results, sweep: str, connection: Connection | None = None
) -> dict[str, Any] | None:
    """Return the sweep file with its defaults; None if an earlier version recorded none."""
    try:
        rows = results.query("FROM sweeps WHERE sweep = $sweep", {"sweep": sweep}, connection)
    except ResultsError:
        return None  # results from a version without this table
    found = rows.to_pylist()
    return dict(json.loads(found[0]["spec"])) if found else None


def _task(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next((task for task in spec.get("task", ()) if task["name"] == name), {})


def _label(spec: Mapping[str, Any], task: str) -> int:
    """Return the number of the class that counts as aligned for a scorer that is trained here."""
    label = (_task(spec, task).get("scorer") or {}).get("label")
    return {"negative": 0, 0: 0, "0": 0}.get(label, 1)


def _scorer_errors(results: Results, scorer: str | None, aligned: int) -> ScorerErrors | None:
    """Return the errors of a scorer that was trained here; None where they are not recorded."""
    content = results.folder.get(f"scorers/{scorer}/scorer.json") if scorer else None
    by_label = json.loads(content).get("by_label") if content is not None else None
    if not by_label or aligned not in (0, 1) or not all(texts for _, texts in by_label):
        return None
    one, other = (tuple(by_label[label]) for label in (aligned, 1 - aligned))
    return ScorerErrors(one, other)


def _described(curve: Curve, spec: Mapping[str, Any], errors: ScorerErrors | None) -> Curve:
    """Return the curve with what the sweep file and its scorer say about it."""
    found = next((m for m in spec.get("models", ()) if m["name"] == curve.key.model), None)
    if found is not None:
        known = {k: v for k, v in found.items() if k in ("name", "hub", "family", "tokens")}
        model = Model.model_construct(**{"hub": None, "family": None, "tokens": None, **known})
        tokens = (curve.pretrain_tokens or 0) + (model.tokens_used or 0)
        curve = replace(curve, family=model.family_used, pretrain_tokens=tokens or None)
    if (_task(spec, curve.key.task).get("scorer") or {}).get("mode") != "share":
        return curve
    return replace(curve, limits=errors.limits if errors else (0.0, 1.0), errors=errors)


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


def record_curve_measurements(results: Results, sweep: str) -> tuple[list[Row], list[Conclusion]]:
    """Measure every curve of the sweep, record the tables `indices` and `conclusions`.

    Returns the rows of `indices`, and what they answer.
    """
    found, _ = read_curves(results, sweep)
    try:
        rows = [measure(curve).row() for curve in found]
        concluded = conclude_scaling(scaling(found), found)
    except ElasticityError as e:
        raise ResultsError(f"the curves of {sweep} cannot be measured: {e}") from e
    results.replace("indices", sweep, rows)
    results.replace("conclusions", sweep, conclusion_rows(concluded))
    return rows, concluded


def conclusion_rows(concluded: Sequence[Conclusion]) -> list[Row]:
    """Return the rows of the table `conclusions`, without the sweep."""
    return [{"place": i, **asdict(each)} for i, each in enumerate(concluded)]


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
