"""Figure of a sweep's progress: cells done, failed and pending, by model."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from elastic_ray.analysis.palette import DONE, FAILED, PENDING

PATTERNS = {"done": "", "failed": "x", "pending": "/"}
"""Fill patterns, so that the parts are told apart without colour."""


def progress_bars(table: pd.DataFrame) -> go.Figure:
    """Return a bar per `label`: the shares of its cells that are done, failed and pending."""
    figure = go.Figure()
    parts = (("done", "done", DONE), ("failed", "failed", FAILED), ("pending", "pending", PENDING))
    for column, name, colour in parts:
        figure.add_bar(
            y=table["label"],
            x=table[column] / table["cells"],
            orientation="h",
            name=name,
            marker={"color": colour, "pattern": {"shape": PATTERNS[column]}},
            customdata=table[[column, "cells"]],
            hovertemplate=f"%{{customdata[0]:,}} of %{{customdata[1]:,}} cells {name}"
            "<extra>%{y}</extra>",
        )
    figure.update_layout(
        barmode="stack",
        height=110 + 30 * len(table),
        bargap=0.35,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )
    figure.update_xaxes(
        range=[0, 1.02], tickformat=".0%", zeroline=False, tickvals=[0, 0.25, 0.5, 0.75, 1]
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure
