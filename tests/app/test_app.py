"""Every page of the app, run by AppTest on empty, partial, failed and compacted results."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from shown_results import record, record_lessons

pytest.importorskip("streamlit")

import streamlit as st
from streamlit.testing.v1 import AppTest

from elastic_ray.analysis.labels import DISTRIBUTION_LABELS
from elastic_ray.app.figures.compression import changes, faster
from elastic_ray.app.figures.curves import apart, curves, reach, retention
from elastic_ray.app.figures.paths import paths
from elastic_ray.app.figures.paths import reach as reach_of_paths
from elastic_ray.app.figures.progress import progress_bars
from elastic_ray.app.figures.scaling import scaling
from elastic_ray.app.figures.surfaces import difference, heatmap, surface
from elastic_ray.app.reader import Reader
from elastic_ray.app.widgets import file_name, labelled
from elastic_ray.results.compaction import compact
from elastic_ray.results.sandbox import QueryResult
from elastic_ray.results.store import Results

ROOT = Path(__file__).parents[2]
PAGES = (
    *("overview", "curves", "surfaces", "scaling", "paths", "compression", "responses"),
    *("state", "sql"),
)
OPEN = Callable[..., AppTest]


@pytest.fixture
def open_app(monkeypatch: pytest.MonkeyPatch) -> OPEN:
    """Opens a page of the app on a results folder; `query` holds the URL's query parameters."""

    def at(folder: Path, page: str = "overview", **query: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["app.py", "--results", str(folder)])
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
        app.session_state["results_uri"] = str(folder)
        st.cache_resource.clear()  # may hold earlier rows of this folder
        app.query_params.update(query)
        app.run()
        if page != "overview":
            app.switch_page(f"elastic_ray/app/pages/{page}.py").run()
        assert not app.exception, [e.value for e in app.exception]
        return app

    return at


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done") / "results"
    record(Results(folder))
    return folder


def test_pages_without_results_show_how_to_start_a_sweep(open_app: OPEN, tmp_path: Path) -> None:
    for page in PAGES:
        if page == "state":
            continue
        app = open_app(tmp_path / "none", page)
        assert "No sweep is recorded" in app.info[0].value
        assert "elastic_ray.sweep" in app.code[0].value
    Results(tmp_path / "empty")
    app = open_app(tmp_path / "empty")
    assert "No sweep is recorded" in app.info[0].value


@pytest.mark.parametrize("how", ["nothing scored", "running", "failed", "compacted"])
def test_pages_of_partial_results(open_app: OPEN, tmp_path: Path, how: str) -> None:
    results = Results(tmp_path / "results")
    if how == "nothing scored":
        record(results, scored=0)
    elif how == "running":
        record(results, scored=30)
    else:
        record(results, failed=3)
    if how == "compacted":
        assert compact(results, grace=0, delay=0, at_least=2).written
        assert compact(results, grace=0, delay=0, at_least=2).deleted
    app = open_app(tmp_path / "results")
    for page in PAGES:
        app.switch_page(f"elastic_ray/app/pages/{page}.py").run()
        assert not app.exception, [page, *(e.value for e in app.exception)]


def test_overview_counts_recorded_cells(open_app: OPEN, tmp_path: Path) -> None:
    record(Results(tmp_path), "ended", failed=2)
    shown = {metric.label: metric.value for metric in open_app(tmp_path).metric}
    assert shown["Cells scored"] == "70 of 72"
    assert shown["Failed"] == "2"
    record(Results(tmp_path), "under_way", scored=20)
    app = open_app(tmp_path)
    assert app.selectbox(key="sweep").options == ["under_way", "ended"], (
        "most recently updated first"
    )
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Cells scored"] == "20 of 72"
    assert "running" in app.markdown[0].value
    assert shown["Time left (approx.)"] != "-"


def test_lessons_count_as_progress_like_cells(open_app: OPEN, tmp_path: Path) -> None:
    results = Results(tmp_path)
    record_lessons(results)
    rows = results.sweep_rows("lessons", "learnt")
    for row in rows[:5]:
        row["status"] = "pending"
    results.replace("lessons", "learnt", [_without(row, "sweep") for row in rows])
    app = open_app(tmp_path)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Cells done"] == "24 of 24"
    assert shown["Lessons done"] == f"{len(rows) - 5} of {len(rows)}"
    assert "running" in app.markdown[0].value, "not done while lessons are left"


def _without(row: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in row.items() if key != name}


def test_pages_open_with_their_answers(open_app: OPEN, done: Path) -> None:
    for page in ("overview", "curves"):
        texts = [each.value for each in open_app(done, page).markdown]
        assert any(text.startswith("**Half of the alignment is gone after") for text in texts), page
    texts = [each.value for each in open_app(done, "surfaces").markdown]
    assert any("the way back to the baseline takes more" in text for text in texts)
    texts = [each.value for each in open_app(done, "responses").markdown]
    assert any(text.startswith("**Mean score ") for text in texts)


def test_unknown_values_in_an_address_are_named(open_app: OPEN, done: Path) -> None:
    app = open_app(done, "curves", show="colour")
    assert any("show `colour`, which is not offered" in each.value for each in app.warning)
    app = open_app(done, "curves", show="retention")
    assert not app.warning


def test_a_state_has_a_page(open_app: OPEN, done: Path) -> None:
    results = Results(done, read_only=True)
    cell = next(row for row in results.cells("shown") if row["negative"] == 40)
    app = open_app(done, "state", id=cell["state_id"])
    texts = [each.value for each in app.markdown]
    assert any(text.startswith("**Negative state after 40 examples: mean score") for text in texts)
    scores = next(table.value for table in app.dataframe if "score" in table.value)
    assert scores["negative"].tolist() == [40]
    assert "No state absent is recorded" in open_app(done, "state", id="absent").info[0].value


def test_surfaces_start_with_heatmaps_of_the_smallest_and_the_largest_model(
    open_app: OPEN, done: Path
) -> None:
    app = open_app(done, "surfaces")
    assert app.segmented_control(key="view").value == "heatmap"
    chosen = app.multiselect(key="model").value
    assert chosen == ["small, pre-trained on 4k", "large, pre-trained on 4k"], "alike but in size"


def test_file_names_hold_no_commas() -> None:
    assert file_name("curves-tiny", "small, pre-trained on 4k") == (
        "curves-tiny-small-pre-trained-on-4k"
    )


def test_curves_with_every_option(open_app: OPEN, done: Path) -> None:
    """That the URL keeps the selections is tested in test_browser.py."""
    app = open_app(done, "curves")
    for key, value in (("show", "retention"), ("axis", "linear"), ("image", "svg")):
        app.segmented_control(key=key).set_value(value).run()
        assert not app.exception
    app.multiselect(key="model").set_value([]).run()
    assert "at least one model" in app.info[0].value


def test_surfaces_in_every_view(open_app: OPEN, done: Path) -> None:
    app = open_app(done, "surfaces")
    for view in ("heatmap", "difference", "3D"):
        app.segmented_control(key="view").set_value(view).run()
        assert not app.exception
    assert {box.label for box in app.selectbox} == {"Sweep"}


def test_scaling_opens_with_the_answers_and_tests_no_trend_of_two_sizes(
    open_app: OPEN, done: Path
) -> None:
    app = open_app(done, "scaling")
    text = " ".join(each.value for each in (*app.markdown, *app.caption))
    assert "**Does elasticity grow with model size?** (pre-trained on 1k)" in text
    assert "two sizes, one pre-training run each, cannot show a trend" in text
    assert "Kendall's tau" not in text, "two sizes cannot reach p < 0.05"
    compare = app.selectbox(key="compare")
    assert len(compare.options) == 4
    for option in compare.options:
        app.selectbox(key="compare").set_value(option).run()
        assert not app.exception


def test_compression_answers_whether_the_ratio_is_k(open_app: OPEN, done: Path) -> None:
    app = open_app(done, "compression")
    text = " ".join(m.value for m in app.markdown)
    assert "Not in general: some intervals contain k" in text
    assert "times as much as a byte of pre-training text" in text
    shown = app.dataframe[0].value
    assert set(shown["said"]) == {"k", "more than k", "less than k"}
    options = app.selectbox(key="curve").options
    assert len(options) == 8
    for option in options[:3]:
        app.selectbox(key="curve").set_value(option).run()
        assert not app.exception


def test_compression_shows_how_to_measure_code_lengths(open_app: OPEN, tmp_path: Path) -> None:
    results = Results(tmp_path)
    record(results)
    (tmp_path / "corpora" / "sweep=shown" / "corpora.parquet").unlink()
    app = open_app(tmp_path, "compression")
    assert "probes: {code_length" in app.info[0].value


def test_a_sweep_of_lessons_is_shown_as_table_1(open_app: OPEN, tmp_path: Path) -> None:
    """Such a sweep has no scores and no negative sizes, so the other pages show a notice."""
    record_lessons(Results(tmp_path), failed=True)
    app = open_app(tmp_path)
    assert {metric.label: metric.value for metric in app.metric}["Cells done"] == "24 of 24"
    app.switch_page("elastic_ray/app/pages/paths.py").run()
    assert not app.exception, [e.value for e in app.exception]
    assert any("yes, in every pair. Of 8 pairs" in text.value for text in app.markdown)
    shown = app.dataframe[0].value.set_index(["label", "slices"])
    assert shown.loc[("llama2-7b", "1, 2"), "printed"] == "0.1589 vs. 0.2018"
    assert shown.loc[("own", "1, 2"), "printed"] == ""
    assert shown.loc[("own", "1, 3"), "nearer"] == "2 of 2"
    assert shown.loc[("llama2-7b", "2, 3"), "inverse"] == "-"
    assert "2 of 4 lessons failed" in shown.loc[("llama2-7b", "2, 3"), "note"]
    app.segmented_control(key="metric").set_value("kl").run()
    assert not app.exception
    assert any("By KL divergence: not in every pair" in text.value for text in app.markdown)
    assert "printed" not in app.dataframe[0].value or not any(app.dataframe[0].value["printed"])
    for page in ("curves", "surfaces", "scaling"):
        app.switch_page(f"elastic_ray/app/pages/{page}.py").run()
        assert not app.exception, [page, *(e.value for e in app.exception)]
        assert "not scored (`scorer: none`" in app.info[0].value
    for page in ("compression", "responses", "sql"):
        app.switch_page(f"elastic_ray/app/pages/{page}.py").run()
        assert not app.exception, [page, *(e.value for e in app.exception)]


def test_unmeasured_lessons_are_counted(open_app: OPEN, tmp_path: Path) -> None:
    record_lessons(Results(tmp_path), failed=True, measured=False)
    message = open_app(tmp_path, "paths").info[0].value
    assert "34 of 36 lessons are measured, 2 failed (RuntimeError: out of memory)" in message


def test_paths_show_how_to_add_lessons(open_app: OPEN, done: Path) -> None:
    assert "`lessons: {pairs:" in open_app(done, "paths").info[0].value


def test_a_link_to_an_unrecorded_sweep_does_not_show_another_sweep(
    open_app: OPEN, done: Path
) -> None:
    app = open_app(done, sweep="absent")
    assert "No sweep named `absent` is recorded here" in app.info[0].value
    assert app.selectbox(key="sweep").value == "absent"
    app.selectbox(key="sweep").set_value("shown").run()
    assert not app.exception
    assert app.selectbox(key="sweep").options == ["shown"]


def test_a_sweep_without_negative_sizes_is_shown(open_app: OPEN, tmp_path: Path) -> None:
    results = Results(tmp_path)
    record(results)
    results.replace("cells", "shown", [c for c in results.cells("shown") if not c["negative"]])
    results.replace("indices", "shown", [])
    app = open_app(tmp_path)
    for page in PAGES:
        app.switch_page(f"elastic_ray/app/pages/{page}.py").run()
        assert not app.exception, [page, *(e.value for e in app.exception)]


def test_a_running_sweep_is_measured_from_the_cells_scored_so_far(
    open_app: OPEN, tmp_path: Path
) -> None:
    record(Results(tmp_path), scored=60)
    app = open_app(tmp_path, "scaling")
    assert any("Measured just now" in caption.value for caption in app.caption)


def test_responses_are_filtered_and_paged_by_sql(open_app: OPEN, done: Path) -> None:
    app = open_app(done, "responses")
    texts = [m.value for m in app.markdown]
    assert any("\\<b\\>no 0\\</b\\> \\$x\\$ was" in text for text in texts), (
        "Markdown and HTML in answers are escaped"
    )
    assert any("1 to 10 of 12" in caption.value for caption in app.caption)
    app.number_input(key="page").set_value(2).run()
    assert any("11 to 12 of 12" in caption.value for caption in app.caption)
    app.text_input(key="contains").set_value("no 7").run()
    assert not app.exception
    assert any("1 to 1 of 1 " in caption.value for caption in app.caption)
    app.text_input(key="contains").set_value("not to be found").run()
    assert "No answer matches" in app.info[0].value
    app.text_input(key="contains").set_value("").run()
    app.number_input(key="from").set_value(2.0).run()
    assert "No answer matches" in app.info[0].value


def test_sql_page_runs_select_and_rejects_other_statements(open_app: OPEN, done: Path) -> None:
    app = open_app(done, "sql")
    assert isinstance(app.session_state["answer"][1], QueryResult)
    app.text_area(key="q").set_value("SELECT 41 + 1 AS n").run()
    assert app.dataframe[0].value["n"].tolist() == [42]
    app.text_area(key="q").set_value("COPY scores TO '/tmp/x.csv'").run()
    assert not app.exception
    assert "only SELECT" in app.error[0].value


# The data that the pages show


def test_cached_values_are_read_again_after_clearing(tmp_path: Path) -> None:
    results = Results(tmp_path)
    record(results, scored=20)
    reader = Reader(str(tmp_path))
    assert reader.progress("shown")["done"].sum() == 20
    record(results, scored=40)
    reader._cache.clear()
    assert reader.progress("shown")["done"].sum() == 40
    assert reader.progress("shown") is not None


# Figures, tested without a browser


@pytest.fixture(scope="module")
def curves_with_gaps(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("curves_with_gaps")
    record(Results(folder), failed=4)
    return retention(labelled(Reader(str(folder)).curves("shown")))


def test_curves_have_gaps_at_missing_points(curves_with_gaps: pd.DataFrame) -> None:
    part = curves_with_gaps[curves_with_gaps["label"] == curves_with_gaps["label"].iloc[-1]]
    figure = curves(part, bounds=reach(part, "score"))
    lines = [t for t in figure.data if t.mode == "lines+markers"]
    assert [t.name for t in lines] == ["100 positive", "400 positive"]
    assert not any(t.connectgaps for t in lines)
    assert figure.data[-1].line.dash == "dash"
    assert figure.layout.xaxis.ticktext[0] == "0"
    assert curves(part, value="retention", logarithmic=False).layout.xaxis.tickvals is None


def test_missing_points_are_not_interpolated(curves_with_gaps: pd.DataFrame) -> None:
    part = curves_with_gaps[
        (curves_with_gaps["positive"] > 0)
        & (curves_with_gaps["label"] == curves_with_gaps["label"].iloc[0])
    ].copy()
    at = (part["positive"] == 100) & (part["negative"] == 40)
    part.loc[at, ["score", "standard_error"]] = None
    part.loc[at, "failed"] = 2
    space = surface(part, "score", (0, 1)).data[0]
    assert space.connectgaps is False
    assert pd.isna(space.z[0][2])
    flat = heatmap(part, "score", (0, 1))
    assert [(a.x, a.y, a.text) for a in flat.layout.annotations] == [(2, 0, "✕")]
    line = curves(part).data
    assert pd.isna(next(t for t in line if t.name == "100 positive").y[2])
    bands = [t for t in line if t.legendgroup == "p100" and t.fill == "toself"]
    assert len(bands) == 2, "a band on either side of the missing point"


def test_the_difference_between_a_model_and_itself_is_within_noise(
    curves_with_gaps: pd.DataFrame,
) -> None:
    part = curves_with_gaps[
        (curves_with_gaps["positive"] > 0)
        & (curves_with_gaps["label"] == curves_with_gaps["label"].iloc[0])
    ]
    shown = difference(part, part, "score").data[0]
    assert set(map(str, shown.text.ravel())) == {"(+0.00)"}


def test_paths_figure_shows_measured_and_printed_values(tmp_path: Path) -> None:
    record_lessons(Results(tmp_path))
    found = labelled(Reader(str(tmp_path)).paths("learnt"))
    cross = found[(found["model"] == "llama3-8b") & (found["metric"] == "cross_entropy")]
    figure = paths(cross, "cross_entropy", reach_of_paths(cross))
    inverse, inverse_printed, forward, forward_printed = figure.data
    assert [t.name for t in (inverse, forward)] == ["inverse", "forward"]
    assert inverse_printed.y.tolist() == [0.2540, 0.2268, 0.2341]
    assert forward_printed.y.tolist() == [0.2573, 0.3229, 0.2589]
    assert list(figure.layout.xaxis.ticktext) == ["1, 2", "2, 3", "1, 3"], "as in Table 1"
    low, high = figure.layout.yaxis.range
    assert low < min(*inverse.y, 0.2268) and high > 0.3229
    own = found[(found["model"] == "own") & (found["metric"] == "kl")]
    assert [t.name for t in paths(own, "kl", reach_of_paths(own)).data] == ["inverse", "forward"]


def test_progress_scaling_and_compression_figures(
    curves_with_gaps: pd.DataFrame, done: Path
) -> None:
    reader = Reader(str(done))
    bars = progress_bars(labelled(reader.progress("shown")))
    assert [t.name for t in bars.data] == ["done", "failed", "pending"]
    found, live = reader.indices("shown")
    assert not live
    figure = scaling(labelled(found), "elasticity_index", "parameters")
    assert figure.layout.xaxis.type == "log"
    assert apart([0, 1, 2, 1000, 1001]) == [0, 1, 1000]
    coded = reader.compression("shown")
    moved = changes(coded[0])
    assert [t.name for t in moved.data if t.mode == "lines+markers"] == [
        *DISTRIBUTION_LABELS.values()
    ]
    against = faster(coded, ["a model"] * len(coded))
    assert len(against.data[1].x) == len(coded) == 8
    assert against.layout.xaxis.type == against.layout.yaxis.type == "log"


@pytest.mark.parametrize("page", PAGES)
def test_no_page_has_a_bare_string_that_streamlit_would_show(page: str) -> None:
    source = (ROOT / "elastic_ray" / "app" / "pages" / f"{page}.py").read_text(encoding="utf-8")
    _, *statements = ast.parse(source).body
    assert not [
        ast.unparse(each)
        for each in statements
        if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
    ]


def test_the_settings_lie_beside_the_script_of_the_command() -> None:
    beside = ROOT / "elastic_ray" / "app" / ".streamlit" / "config.toml"
    assert tomllib.loads(beside.read_text(encoding="utf-8"))["server"]["address"] == "127.0.0.1"
    assert (ROOT / ".streamlit" / "config.toml").samefile(beside)
