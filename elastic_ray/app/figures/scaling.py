"""Figure of one quantity of the curves against model size or pre-training tokens."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from elastic_ray.analysis.formatting import format_compact
from elastic_ray.analysis.labels import AXIS_LABELS, QUANTITY_LABELS, positive_label
from elastic_ray.analysis.palette import GREY, size_colours, size_dashes, size_markers

from .curves import apart


def scaling(table: pd.DataFrame, quantity: str, along: str, *, legend: bool = True) -> go.Figure:
    """Return a line per positive size with 95% intervals; an unbounded end has no error bar.

    `along` is the column of the x axis. Positive sizes have small offsets, so that their error bars
    do not overlap. The figure has no title: the page shows the quantity's name.
    """
    figure = go.Figure()
    positives = sorted(int(p) for p in table["positive"].unique())
    span = np.log10(table[along].max() / table[along].min())
    colours, dashes = size_colours(positives), size_dashes(positives)
    markers = size_markers(positives)
    for place, positive in enumerate(positives):
        colour = colours[positive]
        line = table[(table["positive"] == positive) & table[quantity].notna()].sort_values(along)
        if line.empty:
            continue
        y = line[quantity].to_numpy(float)
        up = np.nan_to_num(line[f"{quantity}_high"].to_numpy(float) - y)
        down = np.nan_to_num(y - line[f"{quantity}_low"].to_numpy(float))
        aside = 0.012 * span * (place - (len(positives) - 1) / 2)
        figure.add_scatter(
            x=line[along] * 10**aside,
            y=y,
            mode="lines+markers",
            name=positive_label(positive),
            line={"color": colour, "width": 2, "dash": dashes[positive]},
            marker={"size": 8, "color": colour, "symbol": markers[positive]},
            error_y={
                "type": "data",
                "array": up,
                "arrayminus": down,
                "width": 4,
                "thickness": 1.4,
                "color": colour,
            },
            customdata=np.stack(
                [line["label"], line[f"{quantity}_low"], line[f"{quantity}_high"]], axis=-1
            ),
            hovertemplate="<b>%{customdata[0]}</b><br>"
            + QUANTITY_LABELS[quantity].short
            + " %{y:.3g} [%{customdata[1]:.3g}, %{customdata[2]:.3g}]<extra>"
            + positive_label(positive)
            + "</extra>",
        )
    sizes = apart(sorted(float(s) for s in table[along].dropna().unique()), 0.1)
    padding = 0.08 * span or 0.3
    low, high = np.log10(table[along].min()), np.log10(table[along].max())
    figure.update_xaxes(
        type="log",
        range=[low - padding, high + padding],
        title_text=AXIS_LABELS[along],
        tickmode="array",
        tickvals=sizes,
        ticktext=[format_compact(s) for s in sizes],
        zeroline=False,
    )
    figure.update_yaxes(zeroline=False)
    if quantity == "elasticity_index":
        figure.add_hline(0, line={"color": GREY, "dash": "dash", "width": 1})
    figure.update_layout(
        uirevision="kept",
        height=380,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        showlegend=legend,
        legend={"orientation": "h", "y": -0.25, "yanchor": "top", "x": 0},
    )
    return figure
