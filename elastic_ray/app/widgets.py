"""What the pages share: the results, the choice of a sweep, notices, figures with downloads."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from elastic_ray.analysis.labels import model_label
from elastic_ray.results.errors import ResultsError

from .reader import Reader

_BUTTONS_NOT_SHOWN = ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"]


@st.cache_resource(show_spinner=False)
def _reader(uri: str) -> Reader:
    return Reader(uri)


def reader() -> Reader:
    """The results that the app was started on."""
    return _reader(st.session_state["results_uri"])


def page(title: str, says: str, body: Callable[[Reader], None]) -> None:
    """A page: its title, one sentence on what it shows, and `body`; what fails is said in words."""
    st.html("<style>.stMainBlockContainer {padding-top: 4.2rem; padding-bottom: 3rem}</style>")
    st.title(title, anchor=False)
    st.caption(says)
    try:
        body(reader())
    except ResultsError as e:
        _cannot_read(str(e))


def _cannot_read(message: str) -> None:
    if "no such results folder" in message or "holds no results" in message:
        nothing_yet()
    else:
        st.warning(f"The results cannot be read just now. {message}", icon=":material/error:")


def nothing_yet() -> None:
    """What to do where no sweep is recorded; the page looks again by itself."""
    uri = st.session_state["results_uri"]
    st.info(
        f"**No sweep is recorded in `{uri}` yet.** Start one, and it appears here by itself:",
        icon=":material/rocket_launch:",
    )
    st.code(f"python -m elastic_ray.sweep sweeps/tiny.yaml --results {uri}", language="bash")
    st.caption(
        "It runs in minutes on two cores. Are the results elsewhere? "
        "`streamlit run app.py -- --results URI`"
    )
    _look_again()


@st.fragment(run_every=3.0)
def _look_again() -> None:
    try:
        found = bool(reader().sweeps())
    except ResultsError:
        found = False
    if found:
        st.rerun()


def choose_sweep(results: Reader, *, follow: bool = True) -> dict[str, Any] | None:
    """The sweep to look at, in the address as `sweep`; None, with a notice, where it is not there.

    With `follow` the page is drawn anew when a sweep appears or more of this one is recorded.
    """
    sweeps = {row["sweep"]: row for row in results.sweeps()}
    if not sweeps:
        nothing_yet()
        return None
    # What the address names and is not recorded stays the choice: it may be recorded next, and
    # otherwise the link would show some other sweep without a word.
    asked = st.session_state.get("sweep") or st.query_params.get("sweep")
    absent = [asked] if asked and asked not in sweeps else []
    name = st.selectbox("Sweep", [*sweeps, *absent], key="sweep", bind="query-params")
    if follow:
        _follow(_news(results, name))
    if name in absent:
        nothing_here(
            f"No sweep called `{name}` is recorded here. Should it be, this page shows it by "
            "itself; the recorded ones can be chosen above."
        )
    return sweeps.get(name or "")


def _news(results: Reader, name: str | None) -> list[Any]:
    rows = results.sweeps()
    counts = [(r["done"], r["failed"], r["pending"]) for r in rows if r["sweep"] == name]
    return [name, sorted(row["sweep"] for row in rows), counts]


@st.fragment(run_every=5.0)
def _follow(seen: list[Any]) -> None:
    with contextlib.suppress(ResultsError):  # the page itself says what is wrong
        if _news(reader(), seen[0]) != seen:
            st.rerun()


def choose_models(table: pd.DataFrame, most: int = 6) -> list[str]:
    """Models to show, in the address as `model`; at first all, or of many the first few."""
    every = list(dict.fromkeys(table["label"]))
    if len(every) == 1:
        return every
    chosen = st.multiselect(
        "Models",
        every,
        default=every[:most],
        key="model",
        bind="query-params",
        placeholder="choose models",
    )
    return list(chosen)


def choose_value() -> str:
    """Score or retention, in the address as `show`."""
    return str(
        st.segmented_control(
            "Show",
            ["score", "retention"],
            default="score",
            key="show",
            required=True,
            bind="query-params",
            help="retention: the share of the gap that is left; 1 aligned, 0 back at the base line",
        )
    )


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """The table in order of size with a column `label`: model, pre-training, task if several."""
    several = table["task"].nunique() > 1
    labels = [
        model_label(
            row.model,
            None if pd.isna(row.pretrain) else int(row.pretrain),
            row.task if several else None,
        )
        for row in table.itertuples()
    ]
    order = ["task", "parameters", "model", "pretrain"]
    return table.assign(label=labels).sort_values(order, kind="stable", na_position="first")


def show(figure: go.Figure, name: str, *, key: str, alt: str) -> None:
    """A figure; its camera saves an image called `name`."""
    st.plotly_chart(
        figure,
        key=key,
        alt=alt,
        config={
            "displaylogo": False,
            "displayModeBar": True,
            "modeBarButtonsToRemove": _BUTTONS_NOT_SHOWN,
            "toImageButtonOptions": {
                "format": st.session_state.get("image", "png"),
                "filename": name,
                "scale": 2,
            },
        },
    )


def in_columns(items: Sequence[str], most: int) -> Iterator[str]:
    """Each item in turn inside its column, up to `most` beside each other; one on a phone."""
    wide = min(len(items), most)
    for start in range(0, len(items), wide or 1):
        for column, item in zip(st.columns(wide), items[start : start + wide], strict=False):
            with column:
                yield item


def exports(name: str, data: pd.DataFrame) -> None:
    """The numbers of the page's figures as CSV, and what the figures' camera saves."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "CSV",
            data.to_csv(index=False).encode(),
            f"{name}.csv",
            "text/csv",
            key="export-csv",
            icon=":material/download:",
            on_click="ignore",
            help="the numbers shown above",
        )
        st.segmented_control(
            "Image",
            ["png", "svg"],
            default="png",
            key="image",
            bind="query-params",
            required=True,
            label_visibility="collapsed",
            help="what the camera above each figure saves",
        )


def table(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]], key: str, columns: Mapping[str, Any]
) -> None:
    """Rows as a table, only the named columns, in that order."""
    st.dataframe(
        pd.DataFrame(rows),
        key=key,
        hide_index=True,
        placeholder="-",
        column_order=list(columns),
        column_config=dict(columns),
    )


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows, None where pandas has NaN."""
    return [
        {str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]


def partial(table: pd.DataFrame) -> None:
    """Says in one line how many points are missing, and why."""
    failed, pending = int((table["failed"] > 0).sum()), int((table["seeds"] == 0).sum())
    if pending:
        word = f"{pending:,} of {len(table):,} points have no score yet and are left out"
        st.caption(f":material/info: {word}{f'; at {failed:,} a cell failed' if failed else ''}.")


def unscored(sweep: Mapping[str, Any]) -> bool:
    """Whether the sweep scores no answers at all; then it is said."""
    if sweep["scored"]:
        return False
    nothing_here(
        "The answers of this sweep are not scored (`scorer: none` in its file): it has no curves."
    )
    return True


def nothing_here(why: str) -> None:
    """An empty view, and what to do about it."""
    st.info(why, icon=":material/hourglass_empty:")
