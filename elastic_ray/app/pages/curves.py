"""Score against negative size, one line per positive size, small multiples by model."""

from __future__ import annotations

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
            help="log is log(1 + n), so that 0 has its place at the left",
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
        "A point is the mean over prompts and seeds; bands are 95% intervals over prompts "
        "(1.96 standard errors). Click a line's name to hide it, twice to see it alone."
    )
    partial(chosen)


def _nothing(sweep: dict, models: list[str], value: str) -> None:
    if not models:
        st.info("Choose at least one model above.", icon=":material/filter_alt:")
    elif value == "retention" and sweep["done"]:
        st.info(
            "Retention is undefined here: no curve has an aligned score clear of its base line.",
            icon=":material/hourglass_empty:",
        )
    else:
        st.info(
            "No cell of these models has a score yet. Curves appear as states are questioned; "
            "Overview tells how far the sweep is.",
            icon=":material/hourglass_empty:",
        )


page("Curves", "How fast the aligned behaviour is lost to contrary fine-tuning.", body)
