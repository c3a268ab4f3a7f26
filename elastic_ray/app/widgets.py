"""What the pages share: the page frame, selectors, notices, and figures with downloads."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from elastic_ray.analysis.labels import model_label
from elastic_ray.results.errors import ResultsError

from .reader import Reader

_BUTTONS_NOT_SHOWN = ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"]


_STYLE = """
.stMainBlockContainer {padding-top: 4.2rem; padding-bottom: 3rem}
[data-testid="stCaptionContainer"] {opacity: 0.85 !important}
"""
# Dark text on the bright primary colour: white has a contrast of 2.3:1 with it.
_DARK = """
[data-testid="stMultiSelectTagsContainer"] *:not(input), [data-testid="stBaseButton-primary"] * {
  color: #14191c !important}
"""

TEXT = {"light": "#1d2a30", "dark": "#e4ebee"}
# The text colours of .streamlit/config.toml, for the text in figures.


def _dark() -> bool:
    return st.context.theme.type == "dark"


@st.cache_resource(show_spinner=False)
def _reader(uri: str) -> Reader:
    return Reader(uri)


def reader() -> Reader:
    """Return the reader of the results that the app shows."""
    return _reader(st.session_state["results_uri"])


def page(title: str, summary: str, body: Callable[[Reader], None]) -> None:
    """Draw a page: its title, a one-sentence summary, and `body`.

    A `ResultsError` in `body` becomes a notice.
    """
    st.html(f"<style>{_STYLE}{_DARK if _dark() else ''}</style>")
    st.title(title, anchor=False)
    st.caption(summary)
    try:
        body(reader())
    except ResultsError as e:
        _cannot_read(str(e))


def _cannot_read(message: str) -> None:
    if "no such results folder" in message or "holds no results" in message:
        nothing_yet()
    else:
        st.warning(f"The results cannot be read at the moment. {message}", icon=":material/error:")


def nothing_yet() -> None:
    """Draw what to do if no sweep is recorded; the page reloads when one appears."""
    uri = st.session_state["results_uri"]
    st.info(
        f"**No sweep is recorded in `{uri}` yet.** Start one, and it appears here automatically:",
        icon=":material/rocket_launch:",
    )
    st.code(f"python -m elastic_ray.sweep sweeps/tiny.yaml --results {uri}", language="bash")
    st.caption(
        "This sweep takes minutes on two cores. To show results stored elsewhere: "
        "`streamlit run app.py -- --results URI`"
    )
    _poll_for_sweeps()


@st.fragment(run_every=3.0)
def _poll_for_sweeps() -> None:
    try:
        found = bool(reader().sweeps())
    except ResultsError:
        found = False
    if found:
        st.rerun()


def choose_sweep(results: Reader, *, follow: bool = True) -> dict[str, Any] | None:
    """Return the selected sweep (`sweep` in the address); None, with a notice, if not recorded.

    With `follow`, the page is redrawn when a sweep appears or the selected one makes progress.
    """
    sweeps = {row["sweep"]: row for row in results.sweeps()}
    if not sweeps:
        nothing_yet()
        return None
    # A sweep in the address that is not recorded stays selected: it may be recorded next, and
    # a link must not silently show another sweep.
    requested = st.session_state.get("sweep") or st.query_params.get("sweep")
    absent = [requested] if requested and requested not in sweeps else []
    name = st.selectbox("Sweep", [*sweeps, *absent], key="sweep", bind="query-params")
    if follow:
        _follow(_progress(results, name))
    if name in absent:
        nothing_here(
            f"No sweep named `{name}` is recorded here. The page shows it as soon as it is; "
            "select one of the recorded sweeps above."
        )
    return sweeps.get(name or "")


def _progress(results: Reader, name: str | None) -> list[Any]:
    rows = results.sweeps()
    counts = [(r["done"], r["failed"], r["pending"]) for r in rows if r["sweep"] == name]
    return [name, sorted(row["sweep"] for row in rows), counts]


@st.fragment(run_every=5.0)
def _follow(seen: list[Any]) -> None:
    with contextlib.suppress(ResultsError):  # the page itself shows the error
        if _progress(reader(), seen[0]) != seen:
            st.rerun()


def open_with(answer: str, strength: str = "") -> None:
    """Draw what a page answers, in a sentence, and how strong the evidence is."""
    if answer:
        st.markdown(f"**{escaped(answer)}**")
    if answer and strength:
        st.caption(escaped(strength))


def escaped(text: str) -> str:
    """Return `text` with the characters escaped that Markdown would read as a formula or link."""
    return re.sub(r"([$\[\]_*~`])", r"\\\1", text)


def known_in_address(key: str, offered: Sequence[str]) -> None:
    """Draw a notice that names the values of `key` in the address that are not offered.

    Streamlit drops them from the address; the notice stays until another page is opened.
    """
    notes = st.session_state.setdefault("unknown_values", {})
    if unknown := [v for v in st.query_params.get_all(key) if v not in offered]:
        notes[key] = unknown
    if key in notes:
        st.warning(
            f"The address asks for {key} {', '.join(f'`{v}`' for v in notes[key])}, which is not "
            f"offered here. Offered: {', '.join(f'`{v}`' for v in offered[:8])}"
            + (f" and {len(offered) - 8} more." if len(offered) > 8 else "."),
            icon=":material/link_off:",
        )


def ends(table: pd.DataFrame) -> list[str]:
    """Return the labels of the smallest and the largest model, alike in pre-training if possible.

    `table` is sorted as by `labelled`.
    """
    last = table.iloc[-1]
    alike = table[table["pretrain"].isna() | (table["pretrain"] == last["pretrain"])]
    alike = alike[alike["task"] == last["task"]]
    found = list(dict.fromkeys([alike["label"].iloc[0], last["label"]]))
    return found if len(found) > 1 else list(dict.fromkeys(table["label"]))[-2:]


def choose_models(
    table: pd.DataFrame, most: int = 6, default: Sequence[str] | None = None
) -> list[str]:
    """Return the selected models (`model` in the address), by default `default` or the first."""
    every = list(dict.fromkeys(table["label"]))
    if len(every) == 1:
        return every
    known_in_address("model", every)
    chosen = st.multiselect(
        "Models",
        every,
        default=every[:most] if default is None else list(default),
        key="model",
        bind="query-params",
        placeholder="select models",
    )
    return list(chosen)


def choose_value() -> str:
    """Return "score" or "retention", as selected (`show` in the address)."""
    known_in_address("show", ["score", "retention"])
    return str(
        st.segmented_control(
            "Show",
            ["score", "retention"],
            default="score",
            key="show",
            required=True,
            bind="query-params",
            help="Retention is the share of the gap that remains: 1 aligned, 0 at the baseline.",
        )
    )


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table sorted by model size, with a column `label` that names the model.

    The label has the pre-training size, and the task if there are several.
    """
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


def file_name(*parts: str) -> str:
    """Return a file name of the parts: letters, digits, dots and hyphens only."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-")


def readable(figure: go.Figure) -> go.Figure:
    """Give the figure's texts the text colour of the theme: Streamlit's axis texts are too faint.

    The contrast is tested in tests/app/test_contrast.py.
    """
    colour = TEXT["dark" if _dark() else "light"]
    figure.update_layout(font={"color": colour}, legend={"font": {"color": colour}})
    axis = {"tickfont": {"color": colour}, "title": {"font": {"color": colour}}}
    figure.update_xaxes(axis)
    figure.update_yaxes(axis)
    figure.update_annotations(font={"color": colour})
    return figure


def show(
    figure: go.Figure, name: str, *, key: str, alt: str, select: bool = False
) -> list[dict[str, Any]]:
    """Draw a figure; its camera button saves an image named `name`.

    With `select`, points can be clicked; returns the selected ones, with their `customdata`.
    """
    # In a link, the format is known before its widget is drawn, at the page's end.
    image = st.session_state.get("image") or _linked("image", ("png", "svg"))
    event: Any = st.plotly_chart(
        readable(figure),
        key=f"{key}-{image}",  # Streamlit does not change the configuration of a figure it knows
        alt=alt,
        on_select="rerun" if select else "ignore",
        selection_mode="points",
        config={
            "displaylogo": False,
            "displayModeBar": True,
            "modeBarButtonsToRemove": _BUTTONS_NOT_SHOWN,
            "toImageButtonOptions": {
                "format": image,
                "filename": file_name(name),
                "scale": 2,
            },
        },
    )
    points = event["selection"]["points"] if select else []
    # The browser sends the row of a point's data as an object whose keys are the indices.
    return [
        {**point, "customdata": list((point.get("customdata") or {}).values())} for point in points
    ]


def _linked(key: str, offered: Sequence[str]) -> str:
    """Return the value of `key` in the address, or the first of those offered."""
    value = st.query_params.get(key, "")
    return value if value in offered else offered[0]


def in_columns(items: Sequence[str], most: int) -> Iterator[str]:
    """Yield each item inside its own column, up to `most` side by side; one on a phone."""
    wide = min(len(items), most)
    for start in range(0, len(items), wide or 1):
        for column, item in zip(st.columns(wide), items[start : start + wide], strict=False):
            with column:
                yield item


def exports(name: str, data: pd.DataFrame) -> None:
    """Draw the CSV download of the page's numbers, and the image format of the camera buttons."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "CSV",
            data.to_csv(index=False).encode(),
            f"{file_name(name)}.csv",
            "text/csv",
            key="export-csv",
            icon=":material/download:",
            on_click="ignore",
            help="Download the numbers shown above.",
        )
        st.segmented_control(
            "Image",
            ["png", "svg"],
            default="png",
            key="image",
            bind="query-params",
            required=True,
            label_visibility="collapsed",
            help="Image format that the camera button of each figure saves.",
        )


def table(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]], key: str, columns: Mapping[str, Any]
) -> None:
    """Draw rows as a table with the named columns, in that order."""
    st.dataframe(
        pd.DataFrame(rows),
        key=key,
        hide_index=True,
        placeholder="-",
        column_order=list(columns),
        column_config=dict(columns),
    )


STATE_LINK = st.column_config.LinkColumn(
    "state", display_text=r"id=([0-9a-zA-Z]+)", help="Opens the page of this state."
)
# A column of addresses `state?id=…`.


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries, with None for NaN."""
    return [
        {str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]


def partial(table: pd.DataFrame) -> None:
    """Draw a line on how many points are missing, if any, and how many have failed cells."""
    failed, pending = int((table["failed"] > 0).sum()), int((table["seeds"] == 0).sum())
    if pending:
        missing = f"{pending:,} of {len(table):,} points have no score yet and are left out"
        failures = f"; {failed:,} points have failed cells" if failed else ""
        st.caption(f":material/info: {missing}{failures}.")


def unscored(sweep: Mapping[str, Any]) -> bool:
    """Return whether the sweep scores no answers, and if so draw a notice."""
    if sweep["scored"]:
        return False
    nothing_here(
        "The answers of this sweep are not scored (`scorer: none` in its sweep file), so it has no "
        "curves."
    )
    return True


def nothing_here(reason: str) -> None:
    """Draw a notice in place of an empty view: why it is empty, and what to do."""
    st.info(reason, icon=":material/hourglass_empty:")
