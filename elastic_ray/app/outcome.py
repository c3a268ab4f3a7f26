"""What came out of a sweep, at a glance: answers, small curves, measured sizes, what is notable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from elastic_ray.analysis.formatting import format_row_intervals
from elastic_ray.analysis.labels import QUANTITY_LABELS
from elastic_ray.analysis.summaries import notable, summarize_curves

from .figures.curves import curves, reach
from .reader import Reader
from .widgets import ends, escaped, in_columns, labelled, open_with, records, show, table

SHOWN = ("reversion_size", "half_life", "elasticity_index")


def draw_outcome(results: Reader, sweep: Mapping[str, Any]) -> None:
    """Draw what the sweep shows, or shows so far; nothing where no cell has a score."""
    name = sweep["sweep"]
    points = results.curves(name)
    if points.empty or points["score"].notna().sum() == 0:
        return
    found, live = results.indices(name)
    rows = [] if found.empty else records(labelled(found))
    left = sweep["pending"]
    if left:
        st.caption(
            f":material/bolt: So far, from the {sweep['done']:,} of {sweep['cells']:,} cells that "
            "are scored."
        )
    open_with(*summarize_curves(rows))
    for each in results.conclusions(name) if rows else ():
        about = f" ({each['about']})" if each["about"] else ""
        st.markdown(f"{escaped(each['question'])}{escaped(about)} **{escaped(each['answer'])}**")
    _curves(points)
    st.markdown("\n".join(f"- {escaped(sentence)}" for sentence in notable(rows)))
    if rows:
        _sizes(rows, live)


def _curves(points: pd.DataFrame) -> None:
    """Draw the smallest and the largest model's curves, small."""
    every = labelled(points)
    shown = ends(every)
    part = every[every["label"].isin(shown)]
    bounds = reach(part, "score")
    for label in in_columns(shown, 2):
        st.markdown(f"**{escaped(label)}**: score by negative examples")
        figure = curves(part[part["label"] == label], bounds=bounds)
        figure.update_layout(height=320, margin={"t": 8}, legend={"y": -0.4})
        show(figure, f"overview-{label}", key=f"small-{label}", alt=f"curves of {label}")


def _sizes(rows: list[dict[str, Any]], live: bool) -> None:
    st.markdown("##### Measured, with 95% intervals")
    shown = [name for name in SHOWN if any(row[name] is not None for row in rows)]
    texts = {name: format_row_intervals(rows, name) for name in shown}
    table(
        [
            {"model": row["label"], "positive": row["positive"]}
            | {name: texts[name][i] for name in shown}
            for i, row in enumerate(rows)
        ],
        "measured",
        {
            "model": "model",
            "positive": st.column_config.NumberColumn("positive", format="localized"),
            **{
                name: st.column_config.TextColumn(
                    QUANTITY_LABELS[name].short, help=QUANTITY_LABELS[name].meaning
                )
                for name in shown
            },
        },
    )
    st.caption(
        "Reversion and half-life are in negative examples. "
        + ("Measured just now. " if live else "")
        + "All quantities are on the page Scaling."
    )
