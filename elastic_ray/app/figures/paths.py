"""Figure of inverse and forward paths: distance from the teacher, for each pair of slices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from elastic_ray.analysis.labels import METRIC_LABELS
from elastic_ray.analysis.palette import CATEGORIES, MARKERS
from elastic_ray.elasticity import DIRECTIONS

_ASIDE = 0.13


def paths(
    part: pd.DataFrame, metric: str, bounds: tuple[float, float], *, legend: bool = True
) -> go.Figure:
    """Return one model's pairs along the x axis, with two points and their 95% intervals each.

    `part` holds rows of the view `inverse_forward` of one metric; `bounds` are the ends of the y
    axis. Hollow symbols are the paper's printed values.
    """
    figure = go.Figure()
    place = np.arange(len(part))
    for direction, side, colour in zip(DIRECTIONS, (-_ASIDE, _ASIDE), CATEGORIES, strict=False):
        y, low, high = (part[f"{direction}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
        figure.add_scatter(
            x=place + side,
            y=y,
            mode="markers",
            name=direction,
            marker={"size": 9, "color": colour, "symbol": MARKERS[side > 0]},
            error_y={
                "type": "data",
                "array": np.nan_to_num(high - y),
                "arrayminus": np.nan_to_num(y - low),
                "width": 4,
                "thickness": 1.6,
                "color": colour,
            },
            customdata=np.stack([low, high, part["seeds"], part["prompts"]], axis=-1),
            hovertemplate="%{y:.4g} [%{customdata[0]:.4g}, %{customdata[1]:.4g}]<br>"
            "%{customdata[3]} prompts, %{customdata[2]} seeds<extra>" + direction + "</extra>",
        )
        printed = part[f"printed_{direction}"].to_numpy(float)
        if np.isfinite(printed).any():
            figure.add_scatter(
                x=place + 2 * side,
                y=printed,
                mode="markers",
                name=f"{direction}, in the paper",
                marker={"size": 9, "symbol": "diamond-open", "color": colour},
                hovertemplate="%{y:.4f}<extra>" + direction + ", in the paper</extra>",
            )
    padding = 0.06 * (bounds[1] - bounds[0]) or 0.1
    figure.update_xaxes(
        title_text="slices k, l",
        tickvals=place,
        ticktext=[f"{k}, {last}" for k, last in zip(part["k"], part["l"], strict=True)],
        range=[-0.5, len(part) - 0.5],
        zeroline=False,
        showgrid=False,
    )
    figure.update_yaxes(
        title_text=METRIC_LABELS.get(metric, metric) + ("" if metric == "tv" else ", nats"),
        range=[bounds[0] - padding, bounds[1] + padding],
        zeroline=False,
    )
    figure.update_layout(
        uirevision="kept",
        height=380,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        showlegend=legend,
        legend={"orientation": "h", "y": -0.25, "yanchor": "top", "x": 0},
    )
    return figure


def reach(part: pd.DataFrame) -> tuple[float, float]:
    """Return the smallest and largest value drawn for these rows, or (0, 1) if there are none."""
    names = [f"{d}{end}" for d in DIRECTIONS for end in ("", "_low", "_high")]
    drawn = part[[*names, *(f"printed_{d}" for d in DIRECTIONS)]].to_numpy(float)
    if not np.isfinite(drawn).any():
        return 0.0, 1.0
    return float(np.nanmin(drawn)), float(np.nanmax(drawn))
