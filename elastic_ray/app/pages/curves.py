"""The Curves page: score against negative size, a figure per model, a line per positive size."""

from __future__ import annotations

from typing import Any

import streamlit as st

from elastic_ray.app.figures.curves import curves, reach, retention
from elastic_ray.app.reader import Reader
from elastic_ray.app.widgets import (
    choose_models,
    choose_sweep,
    choose_value,
    exports,
    in_columns,
    labelled,
    page,
    partial,
    show,
    unscored,
)


def body(results: Reader) -> None:
    left, right = st.columns([1, 2])
    with left:
        sweep = choose_sweep(results)
    if sweep is None or unscored(sweep):
        return
    table = labelled(results.curves(sweep["sweep"]))
    with right:
        models = choose_models(table, most=3)
    with st.container(horizontal=True, gap="medium"):
        value = choose_value()
        axis = st.segmented_control(
            "Negative sizes",
            ["log", "linear"],
            default="log",
            key="axis",
            bind="query-params",
            required=True,
            help="log is log(1 + n), which places 0 at the left end.",
        )
    chosen = retention(table[table["label"].isin(models)])
    if chosen[value].notna().sum() == 0:
        _nothing(sweep, models, value)
        return
    bounds, positives = reach(chosen, value), sorted({int(p) for p in chosen["positive"] if p})
    for label in in_columns(models, 3):
        st.markdown(f"**{label}**")
        part = chosen[chosen["label"] == label]
        figure = curves(
            part, value=value, logarithmic=axis == "log", bounds=bounds, positives=positives
        )
        name = f"curves-{sweep['sweep']}-{label}"
        show(figure, name, key=f"curves-{label}", alt=f"{value} against negative examples, {label}")
    exports(f"curves-{sweep['sweep']}", chosen)
    st.caption(
        "Points are means over prompts and seeds; bands are 95% intervals over prompts alone "
        "(1.96 standard errors). Click a line's name to hide it; double-click to show it alone."
    )
    partial(chosen)


def _nothing(sweep: dict[str, Any], models: list[str], value: str) -> None:
    if not models:
        st.info("Select at least one model above.", icon=":material/filter_alt:")
    elif value == "retention" and sweep["done"]:
        st.info(
            "Retention is undefined here: no curve has an aligned score that differs from the "
            "baseline beyond noise.",
            icon=":material/hourglass_empty:",
        )
    else:
        st.info(
            "No cell of these models has a score yet. Curves appear as states are evaluated; "
            "Overview shows the progress of the sweep.",
            icon=":material/hourglass_empty:",
        )


page("Curves", "How quickly contrary fine-tuning removes the aligned behaviour.", body)
