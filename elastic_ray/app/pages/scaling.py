"""The Scaling page: what the sweep answers, and the quantities against size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from elastic_ray.analysis.formatting import (
    format_compact,
    format_number,
    format_p_value,
    format_row_intervals,
)
from elastic_ray.analysis.labels import QUANTITY_LABELS
from elastic_ray.app.figures.scaling import scaling
from elastic_ray.app.reader import Reader
from elastic_ray.app.widgets import (
    choose_sweep,
    exports,
    known_in_address,
    labelled,
    page,
    records,
    show,
    table,
    unscored,
)
from elastic_ray.elasticity import SIGNIFICANT, blocked_trend, least_p

SHOWN = ("reversion_size", "half_life", "elasticity_index")
CLAIMS = {
    "reversion_size": "The paper expects a decrease.",
    "half_life": "The paper expects a decrease.",
    "elasticity_index": "The paper expects an increase.",
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
    _answers(results.conclusions(sweep["sweep"]))
    if live:
        st.caption(":material/bolt: Measured just now, from the cells scored so far.")
    comparisons = _comparisons(found)
    if comparisons:
        with right:
            known_in_address("compare", list(comparisons))
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


def _answers(concluded: Sequence[Mapping[str, Any]]) -> None:
    """Show what the sweep answers, and how strong the evidence is."""
    for each in concluded:
        about = f" ({each['about']})" if each["about"] else ""
        st.markdown(f"**{each['question']}**{about} {each['answer']}")
        if each["strength"]:
            st.caption(each["strength"])


def _comparisons(found: pd.DataFrame) -> dict[str, tuple[str, pd.DataFrame]]:
    """Return the possible comparisons by name: (the column that differs, the rows)."""
    comparisons = {}
    several = found["task"].nunique() > 1
    # Published checkpoints of one size share their tokens; the others differ in `pretrain`.
    published = found["family"].notna()
    tokens = found["pretrain_tokens"].where(published)
    alike = [found["task"], found["pretrain"], found["family"], tokens]
    for (task, pretrain, family, _), part in found.groupby(alike, dropna=False):
        if part["parameters"].nunique() > 1:
            at = (
                ("as published" if pd.isna(family) else family)
                if pd.isna(pretrain)
                else f"pre-trained on {format_compact(pretrain)}"
            )
            name = f"model sizes, {at}" + (f" ({task})" if several else "")
            comparisons[name] = ("parameters", part)
    line, size = found["family"].fillna(found["model"]), found["parameters"].where(published)
    for (task, model, _), part in found.groupby([found["task"], line, size], dropna=False):
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
    tested = (
        "The test is Kendall's tau within positive sizes; its p-value is from permuting the "
        "models' sizes."
        if 2 / math.factorial(models) < SIGNIFICANT
        else f"{models} sizes cannot show a trend (the smallest possible two-sided p is "
        f"{min(1.0, 2 / math.factorial(models)):.2g}), so none is tested."
    )
    st.caption(f"Error bars are 95% intervals over prompts and seeds. {tested}")


def _trend(part: pd.DataFrame, quantity: str, along: str) -> str:
    wide = part.pivot_table(
        index="positive", columns=[along, "label"], values=quantity, dropna=False, aggfunc="first"
    ).dropna(axis=1, how="all")
    sizes = np.array([float(size) for size, _ in wide.columns])
    if least_p(sizes) >= SIGNIFICANT:
        return ""
    tau, p = blocked_trend(sizes, wide.to_numpy(float))
    undefined = int(part[quantity].isna().sum())
    left = f"; {undefined} undefined curve{'s' * (undefined > 1)} left out" if undefined else ""
    if tau is None:
        return f"No trend can be tested{left}."
    return f"Kendall's tau {format_number(tau)}, {format_p_value(p)}{left}."


def _numbers(sweep: str, found: pd.DataFrame) -> None:
    st.markdown("##### Every curve, with 95% intervals")
    names = [name for name in QUANTITY_LABELS if name in found]
    rows = found.assign(**{name: format_row_intervals(records(found), name) for name in names})
    columns = {"label": "model", "positive": st.column_config.NumberColumn(format="localized")}
    columns |= {
        n: st.column_config.TextColumn(QUANTITY_LABELS[n].short, help=QUANTITY_LABELS[n].meaning)
        for n in names
    }
    table(rows, "indices", {**columns, "note": "note"})
    st.caption(
        "A dash is undefined (the note says why); … is an unbounded end of an interval, or after a "
        "dash the open side of a bound. Reversion and half-life are in negative examples, rates in "
        "score per 100 negative examples."
    )
    exports(f"indices-{sweep}", found)


page("Scaling", "Does elasticity increase with model size and pre-training?", body)
