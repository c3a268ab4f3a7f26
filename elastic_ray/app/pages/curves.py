"""The Curves page: score against negative size, a figure per model, a line per positive size."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from elastic_ray.analysis.summaries import summarize_curves
from elastic_ray.app.figures.curves import curves, reach, retention
from elastic_ray.app.reader import Reader
from elastic_ray.app.widgets import (
    choose_models,
    choose_sweep,
    choose_value,
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


def body(results: Reader) -> None:
    left, right = st.columns([1, 2])
    with left:
        sweep = choose_sweep(results)
    if sweep is None or unscored(sweep):
        return
    table = labelled(results.curves(sweep["sweep"]))
    answer = st.container()
    with right:
        models = choose_models(table, most=3)
    with answer:
        found, _ = results.indices(sweep["sweep"])
        shown = labelled(found)[lambda t: t["label"].isin(models)] if len(found) else found
        open_with(*summarize_curves(records(shown)))
    with st.container(horizontal=True, gap="medium"):
        value = choose_value()
        known_in_address("axis", ["log", "linear"])
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
    clicked: list[dict[str, Any]] = []
    for label in in_columns(models, 3):
        st.markdown(f"**{label}**")
        part = chosen[chosen["label"] == label]
        figure = curves(
            part, value=value, logarithmic=axis == "log", bounds=bounds, positives=positives
        )
        name = f"curves-{sweep['sweep']}-{label}"
        alt = f"{value} against negative examples, {label}"
        points = show(figure, name, key=f"curves-{label}", alt=alt, select=True)
        clicked += [{**at, "label": label} for at in points if at.get("customdata")]
    _states(results, sweep["sweep"], chosen, clicked)
    exports(f"curves-{sweep['sweep']}", chosen)
    st.caption(
        "Points are means over prompts and seeds; bands are 95% intervals over prompts alone "
        "(1.96 standard errors). Click a line's name to hide it; double-click to show it alone. "
        "Click a point for its states."
    )
    partial(chosen)


def _states(
    results: Reader, sweep: str, chosen: pd.DataFrame, clicked: list[dict[str, Any]]
) -> None:
    """Draw links to the states of the clicked points, one per seed."""
    for at in clicked:
        negative, *_, positive = at["customdata"]
        row = chosen[chosen["label"] == at["label"]].iloc[0]
        point = {"task": row["task"], "model": row["model"]}
        point["pretrain"] = None if pd.isna(row["pretrain"]) else int(row["pretrain"])
        cells = results.cells_at(
            sweep, {**point, "positive": int(positive), "negative": int(negative)}
        )
        links = ", ".join(
            f"[seed {cell['seed']}: {cell['state_id']}](state?id={cell['state_id']})"
            for cell in cells
        )
        st.markdown(
            f"{at['label']}, {int(positive):,} positive, {int(negative):,} negative: {links}"
        )


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
