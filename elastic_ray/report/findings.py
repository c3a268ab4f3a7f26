"""All data of a sweep that a report shows: read from the results and measured once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from elastic_ray.analysis.conclusions import Conclusion, conclude_scaling
from elastic_ray.analysis.labels import model_label
from elastic_ray.analysis.measurements import (
    BaseDistance,
    Row,
    measure_base_distances,
    measure_code_length_curves,
    read_curves,
    recorded_spec,
)
from elastic_ray.elasticity import (
    CurveKey,
    Difference,
    ElasticityError,
    Measurement,
    Scaling,
    Surface,
    SurfaceFit,
    compare_all,
    fit_surface,
    measure,
    scaling,
    surfaces,
)
from elastic_ray.results.schemas import nearest
from elastic_ray.results.store import Results
from elastic_ray.theory import CodeLengthCurve

MOST_PAIRED = 4
"""Up to this number of models, all pairs are compared; above it, only those adjacent in size."""


class ReportError(ValueError):
    """The requested report cannot be made; the message says why and what to request instead."""


@dataclass(frozen=True, eq=False)
class Findings:
    """A sweep's measurements and recorded rows.

    `cells` holds the rows of the view `cell_scores`, `requests` those of `questions` and `paths`
    those of `inverse_forward`. `lessons`, `failures`, `made_with`, `starts` and `recipes` hold the
    rows of the views of the same name. `spec` is the sweep file with its defaults; it is None if
    the results do not record it. `unfitted` maps a surface to the reason why it has no fit. `coded`
    holds the code-length curves with their points. `conclusions` are the answers of the sweep,
    `comparisons` the differences between models, `against` those between this sweep and a second
    one. `base_distances` are the divergences from the baselines along the curves.
    """

    sweep: str
    uri: str
    cells: list[Row]
    progress: Row
    measurements: tuple[Measurement, ...]
    surfaces: tuple[Surface, ...]
    fits: tuple[SurfaceFit, ...]
    unfitted: dict[CurveKey, str]
    scaling: tuple[Scaling, ...]
    conclusions: tuple[Conclusion, ...]
    comparisons: tuple[Difference, ...]
    against: tuple[Difference, ...]
    failures: list[Row]
    made_with: list[Row]
    starts: list[Row]
    recipes: list[Row]
    requests: list[Row]
    spec: dict[str, Any] | None
    coded: tuple[CodeLengthCurve, ...]
    lessons: list[Row]
    paths: list[Row]
    base_distances: tuple[BaseDistance, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row["task"] for row in self.cells))

    @property
    def negatives(self) -> tuple[int, ...]:
        """The negative sizes of the sweep's grid, including those without scores."""
        return tuple(sorted({row["negative"] for row in self.cells if row["positive"]}))

    def name(self, key: CurveKey) -> str:
        """Return the model's label, with its task if the sweep has several."""
        return model_label(key.model, key.pretrain, key.task if len(self.tasks) > 1 else None)

    def holes(self, key: CurveKey) -> tuple[int, ...]:
        """Return the negative sizes of a curve at which every seed failed."""
        states: dict[int, set[str]] = {}
        for row in self.cells:
            if all(row[name] == getattr(key, name) for name in _CURVE):
                states.setdefault(row["negative"], set()).add(row["status"])
        return tuple(n for n, found in sorted(states.items()) if found == {"failed"})


_CURVE = ("model", "task", "pretrain", "positive")


def choose_sweep(results: Results, requested: str | None) -> str:
    """Return the sweep to report on: `requested`, or the only one recorded.

    Raises `ReportError`, which lists the recorded sweeps.
    """
    known = sorted(key[0] for key in results.recorded("cells"))
    if not known:
        raise ReportError(f"no sweep is recorded in {results.uri}; run one with --results there")
    if requested is None:
        if len(known) > 1:
            raise ReportError(f"several sweeps are recorded; add --sweep, one of {_names(known)}")
        return known[0]
    if requested not in known:
        near = nearest(requested, known)
        raise ReportError(
            f"no sweep {requested!r}{near} in {results.uri}; recorded: {_names(known)}"
        )
    return requested


def find(results: Results, sweep: str, against: str | None = None) -> Findings:
    """Read and measure the sweep; `against` is a second sweep to compare it with.

    Raises `ResultsError` for damaged results, and `ReportError` if the two sweeps have no curve in
    common.
    """
    found, cells = read_curves(results, sweep)
    planes = surfaces(found)
    fits, unfitted = [], {}
    for plane in planes:
        try:
            fits.append(fit_surface(plane))
        except ElasticityError as e:
            unfitted[plane.key] = str(e)
    differences: list[Difference] = []
    for smaller, larger in _pairs(planes):
        differences += compare_all(larger.curves, smaller.curves)
    others: list[Difference] = []
    if against is not None:
        try:
            others = compare_all(found, read_curves(results, against)[0], _CURVE)
        except ElasticityError as e:
            raise ReportError(f"{sweep} and {against}: {e}") from e
    trends = scaling(found)
    progress = results.sweep_rows("progress", sweep)
    has_lessons = results.has("lessons", sweep=sweep)
    lessons = results.sweep_rows("lessons", sweep) if has_lessons else []
    return Findings(
        sweep=sweep,
        uri=results.uri,
        cells=cells,
        progress=progress[0] if progress else {},
        measurements=tuple(measure(curve) for curve in found),
        surfaces=tuple(planes),
        fits=tuple(fits),
        unfitted=unfitted,
        scaling=tuple(trends),
        conclusions=tuple(conclude_scaling(trends, found)),
        comparisons=tuple(differences),
        against=tuple(others),
        failures=results.sweep_rows("failures", sweep),
        made_with=_parsed(results.sweep_rows("made_with", sweep), "versions", "hardware"),
        starts=_parsed(results.sweep_rows("starts", sweep), "start"),
        recipes=_parsed(results.sweep_rows("recipes", sweep), "recipe"),
        requests=results.sweep_rows("questions", sweep),
        spec=recorded_spec(results, sweep),
        coded=tuple(measure_code_length_curves(results, sweep)),
        lessons=lessons,
        paths=results.sweep_rows("inverse_forward", sweep) if lessons else [],
        base_distances=tuple(measure_base_distances(results, sweep)),
    )


def _pairs(planes: Sequence[Surface]) -> Iterable[tuple[Surface, Surface]]:
    """Yield the pairs of models to compare, (smaller, larger), within each task."""
    by_task: dict[str, list[Surface]] = {}
    for plane in planes:
        by_task.setdefault(plane.key.task, []).append(plane)
    for group in by_task.values():
        ordered = sorted(group, key=lambda s: (s.parameters or 0, s.pretrain_tokens or 0))
        few = len(ordered) <= MOST_PAIRED
        yield from itertools.combinations(ordered, 2) if few else itertools.pairwise(ordered)


def _parsed(rows: list[Row], *names: str) -> list[Row]:
    for row in rows:
        for name in names:
            row[name] = json.loads(row[name]) if row[name] else {}
    return rows


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
