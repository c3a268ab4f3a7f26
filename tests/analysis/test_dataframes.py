"""Measured curves as a data frame."""

from __future__ import annotations

from pathlib import Path

import pytest
from shown_results import record, record_lessons

pd = pytest.importorskip("pandas")

from elastic_ray.analysis.dataframes import measure_curves
from elastic_ray.analysis.measurements import record_curve_measurements
from elastic_ray.elasticity import QUANTITIES
from elastic_ray.results.errors import ResultsError
from elastic_ray.results.store import Results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    made = Results(tmp_path_factory.mktemp("frames") / "results")
    record(made, measured=False)
    record(made, "running", scored=40)
    record_lessons(made)
    return made


def test_the_data_frame_equals_the_recorded_rows(results: Results) -> None:
    table = measure_curves(results, "shown")
    rows, concluded = record_curve_measurements(results, "shown")
    recorded = results.query("FROM conclusions ORDER BY place").to_pylist()
    assert [row["answer"] for row in recorded] == [each.answer for each in concluded]
    assert len(table) == len(rows) == 8
    assert list(table.columns) == list(rows[0])
    for row, (_, shown) in zip(rows, table.iterrows(), strict=True):
        for name, value in row.items():
            same = shown[name] == value if value is not None else pd.isna(shown[name])
            assert same, name


def test_every_quantity_has_its_interval(results: Results) -> None:
    table = measure_curves(results, "shown")
    for name in QUANTITIES:
        assert (table[name].dtype, table[f"{name}_low"].dtype) == ("float64", "float64")
    known = table.dropna(subset=["gap"])
    assert (known["gap_low"] <= known["gap"]).all() and (known["gap"] <= known["gap_high"]).all()
    assert set(table["positive"]) == {100, 400}


def test_without_a_sweep_every_recorded_one_is_measured(results: Results) -> None:
    table = measure_curves(results)
    assert set(table["sweep"]) == {"shown", "running"}, "the sweep of lessons has no curves"
    assert not results.has("indices", sweep="running"), "nothing is recorded"


def test_results_without_curves_give_an_empty_data_frame(results: Results, tmp_path: Path) -> None:
    columns = list(measure_curves(results, "shown").columns)
    for empty in (measure_curves(Results(tmp_path)), measure_curves(results, "learnt")):
        assert empty.empty and list(empty.columns) == columns


def test_an_unknown_sweep_is_named(results: Results) -> None:
    with pytest.raises(ResultsError, match=r"no sweep 'shwn' .did you mean 'shown'"):
        measure_curves(results, "shwn")
