"""The Scaling page: elasticity index and rates against size, with a test of each trend."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import streamlit as st

from elastic_ray.analysis.formatting import (
    format_compact,
    format_number,
    format_p_value,
    format_row_interval,
)
from elastic_ray.analysis.labels import QUANTITY_LABELS
from elastic_ray.app.figures.scaling import scaling
from elastic_ray.app.reader import Reader
from elastic_ray.app.widgets import (
    choose_sweep,
    exports,
    labelled,
    page,
    records,
    show,
    table,
    unscored,
)
from elastic_ray.elasticity import blocked_trend

SHOWN = ("elasticity_index", "early_rate", "late_rate")
CLAIMS = {
    "elasticity_index": "The paper expects an increase.",
    "early_rate": "The paper expects an increase.",
    "late_rate": "The paper expects a decrease.",
}


def body(results: Reader) -> None:
    left, right = st.columns(2)
    with left:
        sweep = choose_sweep(results)
    if sweep is None or unscored(sweep):
        return
    found, live = results.indices(sweep["sweep"])
    if found.empty:
        st.info(
            "Nothing is measured yet. A sweep measures its curves when it ends; small sweeps are "
            "also measured here while they run, once curves have scores.",
            icon=":material/hourglass_empty:",
        )
        return
    found = labelled(found)
    if live:
        st.caption(":material/bolt: Measured just now, from the cells scored so far.")
    comparisons = _comparisons(found)
    if comparisons:
        with right:
            chosen = st.selectbox(
                "Compare",
                list(comparisons),
                key="compare",
                bind="query-params",
                help="Groups of models that differ in one size only.",
            )
        along, part = comparisons[chosen or next(iter(comparisons))]
        _figures(sweep["sweep"], part, along)
    else:
        st.info(
            "A trend needs at least two model sizes with the same pre-training, or one model with "
            "at least two pre-training sizes. The quantities of each curve are below.",
            icon=":material/trending_up:",
        )
    _numbers(sweep["sweep"], found)


def _comparisons(found: pd.DataFrame) -> dict[str, tuple[str, pd.DataFrame]]:
    """Return the possible comparisons by name: (the column that differs, the rows)."""
    comparisons = {}
    several = found["task"].nunique() > 1
    for (task, pretrain), part in found.groupby(["task", "pretrain"], dropna=False):
        if part["parameters"].nunique() > 1:
            at = (
                "as published"
                if pd.isna(pretrain)
                else f"pre-trained on {format_compact(pretrain)}"
            )
            name = f"model sizes, {at}" + (f" ({task})" if several else "")
            comparisons[name] = ("parameters", part)
    for (task, model), part in found.groupby(["task", "model"]):
        if part["pretrain_tokens"].nunique() > 1:
            name = f"pre-training sizes of {model}" + (f" ({task})" if several else "")
            comparisons[name] = ("pretrain_tokens", part)
    return comparisons


def _figures(sweep: str, part: pd.DataFrame, along: str) -> None:
    for column, quantity in zip(st.columns(len(SHOWN)), SHOWN, strict=True):
        with column:
            st.markdown(
                f"**{QUANTITY_LABELS[quantity].axis}**", help=QUANTITY_LABELS[quantity].meaning
            )
            if part[quantity].notna().sum() == 0:
                st.caption("Undefined for every curve here; the notes below give the reasons.")
                continue
            name = f"{quantity}-{sweep}-{along}"
            show(scaling(part, quantity, along), name, key=name, alt=f"{quantity} by {along}")
            st.caption(f"{_trend(part, quantity, along)} {CLAIMS[quantity]}")
    models = part[along].nunique()
    st.caption(
        "Error bars are 95% intervals over prompts. The test is Kendall's tau within positive "
        f"sizes; its p-value is from permuting the models' sizes. With {models} sizes, the "
        f"smallest possible two-sided p is {2 / math.factorial(models):.2g}."
    )


def _trend(part: pd.DataFrame, quantity: str, along: str) -> str:
    wide = part.pivot_table(
        index="positive", columns=[along, "label"], values=quantity, dropna=False, aggfunc="first"
    ).dropna(axis=1, how="all")
    sizes = np.array([float(size) for size, _ in wide.columns])
    tau, p = blocked_trend(sizes, wide.to_numpy(float))
    undefined = int(part[quantity].isna().sum())
    left = f"; {undefined} undefined curve{'s' * (undefined > 1)} left out" if undefined else ""
    if tau is None:
        return f"No trend can be tested{left}."
    return f"Kendall's tau {format_number(tau)}, {format_p_value(p)}{left}."


def _numbers(sweep: str, found: pd.DataFrame) -> None:
    st.markdown("##### Every curve, with 95% intervals")
    names = [name for name in QUANTITY_LABELS if name in found]
    rows = found.assign(
        **{name: [format_row_interval(row, name) for row in records(found)] for name in names}
    )
    columns = {"label": "model", "positive": st.column_config.NumberColumn(format="localized")}
    columns |= {
        n: st.column_config.TextColumn(QUANTITY_LABELS[n].short, help=QUANTITY_LABELS[n].meaning)
        for n in names
    }
    table(rows, "indices", {**columns, "note": "note"})
    st.caption(
        "A dash is undefined; … is an unbounded end of an interval. Half-life and reversion are in "
        "negative examples, rates in score per 100 negative examples."
    )
    exports(f"indices-{sweep}", found)


page("Scaling", "Does elasticity increase with model size and pre-training?", body)
