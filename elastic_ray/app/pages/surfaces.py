"""The Surfaces page: score by positive and negative size, as 3D, heatmap or difference."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from elastic_ray.analysis.summaries import summarize_positive
from elastic_ray.app.figures.curves import retention
from elastic_ray.app.figures.surfaces import difference, heatmap, surface
from elastic_ray.app.reader import Reader
from elastic_ray.app.widgets import (
    choose_models,
    choose_sweep,
    choose_value,
    ends,
    exports,
    in_columns,
    known_in_address,
    labelled,
    open_with,
    page,
    partial,
    records,
    show,
    unscored,
)

VIEWS = ["heatmap", "3D", "difference"]


def body(results: Reader) -> None:
    left, right = st.columns([1, 2])
    with left:
        sweep = choose_sweep(results)
    if sweep is None or unscored(sweep):
        return
    table = labelled(results.curves(sweep["sweep"]))
    table = retention(table[table["positive"] > 0])
    known_in_address("view", VIEWS)
    answer = st.container()
    with st.container(horizontal=True, gap="medium"):
        how = st.segmented_control(
            "View",
            VIEWS,
            default=VIEWS[0],
            key="view",
            required=True,
            bind="query-params",
        )
        value = choose_value()
    if table[value].notna().sum() == 0:
        st.info(
            f"No cell has a {value} yet. Overview shows the progress of the sweep.",
            icon=":material/hourglass_empty:",
        )
        return
    found, _ = results.indices(sweep["sweep"])
    with answer:
        open_with(*summarize_positive(records(found)))
    if how == "difference":
        _difference(sweep["sweep"], table, value)
        return
    with right:
        models = choose_models(table, default=ends(table))
    chosen = table[table["label"].isin(models)]
    if chosen[value].notna().sum() == 0:
        st.info("Select at least one model with scores.", icon=":material/filter_alt:")
        return
    bounds = (float(chosen[value].min()), float(chosen[value].max()))
    for label in in_columns(models, 2):
        part = chosen[chosen["label"] == label]
        st.markdown(f"**{label}**")
        if part[value].notna().sum() == 0:
            st.caption(f"no {value} yet")
            continue
        figure = (surface if how == "3D" else heatmap)(part, value, bounds)
        name = f"surface-{sweep['sweep']}-{label}"
        show(figure, name, key=f"{how}-{label}", alt=f"{value}, {label}")
    st.caption(
        "All models share one scale of colour and height. Sizes are on a log scale; gaps are "
        "cells without a score" + (" (✕ failed, · pending)." if how == "heatmap" else ".")
    )
    partial(chosen)
    exports(f"surfaces-{sweep['sweep']}", chosen)


def _difference(sweep: str, table: pd.DataFrame, value: str) -> None:
    labels = list(dict.fromkeys(table["label"]))
    if len(labels) < 2:
        st.info("A difference needs two models; this sweep has one.", icon=":material/compare:")
        return
    left, right = st.columns(2)
    # One difference at a time: the models differ in size only, where the sweep has such a pair.
    small, large = ends(table)
    for key in ("one", "other"):
        known_in_address(key, labels)
    one = left.selectbox("Model", labels, index=labels.index(large), key="one", bind="query-params")
    other = right.selectbox(
        "minus", labels, index=labels.index(small), key="other", bind="query-params"
    )
    parts = [table[table["label"] == name] for name in (one, other)]
    figure = difference(parts[0], parts[1], value)
    name = f"difference-{sweep}-{one}-{other}"
    show(figure, name, key="difference", alt=f"{one} minus {other}")
    st.caption(
        f"Blue: {one} scores higher; red: lower. In brackets: the 95% interval includes 0 "
        "(1.96 standard errors, treating prompts as independent)."
    )
    exports(name, pd.concat(parts))


page("Surfaces", "Score by positive and negative examples, models side by side.", body)
