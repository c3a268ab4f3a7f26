"""Figures of code lengths: their change along a curve, and how many times faster D2 loses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from elastic_ray.analysis.formatting import format_compact
from elastic_ray.analysis.labels import AXIS_LABELS, DISTRIBUTION_LABELS
from elastic_ray.analysis.palette import CATEGORIES, DASHES, GREY, MARKERS, faint
from elastic_ray.theory import CodeLengthCurve, first_clear_point, times_faster


def changes(curve: CodeLengthCurve) -> go.Figure:
    """Return a line per distribution: change in bits per byte by negative examples, 95% bands."""
    _, points = curve
    figure = go.Figure()
    x = [point.negative for point in points]
    for j, (name, colour) in enumerate(zip(DISTRIBUTION_LABELS.values(), CATEGORIES, strict=False)):
        low = [point.change[j].low for point in points]
        high = [point.change[j].high for point in points]
        figure.add_scatter(
            x=[*x, *x[::-1]],
            y=[*high, *low[::-1]],
            fill="toself",
            mode="lines",
            fillcolor=faint(colour),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=x,
            y=[point.change[j].value for point in points],
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2, "dash": DASHES[j]},
            marker={"size": 7, "color": colour, "symbol": MARKERS[j]},
            customdata=np.array([low, high, [point.rate[j].value for point in points]]).T,
            hovertemplate="%{y:+.3g} [%{customdata[0]:.3g}, %{customdata[1]:.3g}]: "
            "%{customdata[2]:.3g} bits per byte<extra>" + name + "</extra>",
        )
    figure.add_hline(0, line={"color": GREY, "dash": "dash", "width": 1})
    figure.update_xaxes(title_text=AXIS_LABELS["negative"], zeroline=False)
    figure.update_yaxes(title_text="change, bits per byte", zeroline=False)
    return _laid_out(figure)


def faster(curves: Sequence[CodeLengthCurve], labels: Sequence[str]) -> go.Figure:
    """Return a figure of how many times faster alignment is undone, against k.

    Each curve is read at its smallest size where alignment is undone beyond noise; curves without
    such a size are left out. An unbounded error bar runs off the top.
    """
    figure = go.Figure()
    ks = sorted(coded.k for coded, _ in curves)
    line = [ks[0] / 1.5, ks[-1] * 1.5]
    figure.add_scatter(
        x=line, y=line, mode="lines", name="k times", line={"color": GREY, "dash": "dash"}
    )
    every = [
        (coded, found, label)
        for (coded, points), label in zip(curves, labels, strict=True)
        if (found := times_faster(first_clear_point(points))) is not None
    ]
    ends = [end for _, found, _ in every for end in (found.low, found.value, found.high)]
    drawn = [end for end in (*line, *ends) if 0 < end < np.inf]
    lowest, edge = min(drawn) / 1.5, max(drawn) * 1.5
    for place, label in enumerate(dict.fromkeys(labels)):
        shown = [(coded, found) for coded, found, own in every if own == label]
        colour = CATEGORIES[place % len(CATEGORIES)]
        figure.add_scatter(
            x=[
                coded.k * (1 + 0.02 * place) for coded, _ in shown
            ],  # a small offset, so that models do not overlap
            y=[found.value for _, found in shown],
            mode="markers",
            name=label,
            marker={"size": 9, "color": colour, "symbol": MARKERS[place % len(MARKERS)]},
            error_y={
                "type": "data",
                # far beyond the edge, so that its cap is not visible
                "array": [min(found.high, 10 * edge) - found.value for _, found in shown],
                "arrayminus": [found.value - found.low for _, found in shown],
                "color": colour,
            },
            customdata=[[coded.positive, coded.k, found.low, found.high] for coded, found in shown],
            hovertemplate="<b>" + label + "</b>, %{customdata[0]:,} positive, k = "
            "%{customdata[1]:.3g}<br>%{y:.3g} times [%{customdata[2]:.3g}, %{customdata[3]:.3g}]"
            "<extra></extra>",
        )
    ticks = sorted(set(ks))
    figure.update_xaxes(
        type="log",
        title_text="k = pre-training / positive examples",
        tickvals=ticks,
        ticktext=[format_compact(float(f"{k:.3g}")) for k in ticks],
        zeroline=False,
    )
    figure.update_yaxes(
        type="log",
        title_text="times faster",
        dtick=1,
        zeroline=False,
        range=[np.log10(lowest), np.log10(edge)],
    )
    return _laid_out(figure)


def _laid_out(figure: go.Figure) -> go.Figure:
    figure.update_layout(
        uirevision="kept",
        height=400,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        legend={"orientation": "h", "y": -0.25, "yanchor": "top", "x": 0},
    )
    return figure
