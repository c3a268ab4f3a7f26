"""Score against negative size, one line per positive size, small multiples by model."""

from __future__ import annotations

import streamlit as st

from elastic_ray.app.data import Reader
from elastic_ray.app.figures.curves import curves, retention
from elastic_ray.app.frame import (
    choose_models,
    choose_sweep,
    exports,
    labelled,
    page,
    partial,
    show,
)


def body(results: Reader) -> None:
    top = st.columns([2, 3, 1.3, 1.3], vertical_alignment="bottom")
    with top[0]:
        sweep = choose_sweep(results)
    if sweep is None:
        return
    table = labelled(results.curves(sweep["sweep"]))
    with top[1]:
        models = choose_models(table)
    with top[2]:
        value = st.segmented_control(
            "Show", ["score", "retention"], default="score", key="show", bind="query-params",
            required=True,
            help="retention: the share of the gap that is left; 1 aligned, 0 back at the base line",
        )  # fmt: skip
    with top[3]:
        axis = st.segmented_control(
            "Negative sizes", ["log", "linear"], default="log", key="axis", bind="query-params",
            required=True, help="log is log(1 + n), so that 0 has its place at the left",
        )  # fmt: skip
    chosen = retention(table[table["label"].isin(models)])
    if chosen[value].notna().sum() == 0:
        _nothing(sweep, models, str(value))
        return
    figure = curves(chosen, value=str(value), logarithmic=axis == "log")
    name = f"curves-{sweep['sweep']}"
    show(figure, name, key="curves", alt=f"{value} against negative examples, by model")
    exports(name, chosen)
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
            "Overview tells how far the sweep is.", icon=":material/hourglass_empty:",
        )  # fmt: skip


page("Curves", "How fast the aligned behaviour is lost to contrary fine-tuning.", body)
