"""Figure of one model's curves: score against negative size, one line per positive size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from elastic_ray.analysis.formatting import format_compact
from elastic_ray.analysis.labels import AXIS_LABELS, positive_label
from elastic_ray.analysis.palette import GREY, faint, size_colours, size_dashes, size_markers

Z95 = 1.96
"""Half-width of a normal 95% interval, in standard errors."""

ERROR = {"score": "standard_error", "retention": "retention_error"}
"""Column of a value -> column of its standard error."""


def curves(
    table: pd.DataFrame,
    *,
    value: str = "score",
    logarithmic: bool = True,
    bounds: tuple[float, float] | None = None,
    positives: Sequence[int] = (),
) -> go.Figure:
    """Return the curves of one model, with the baseline dashed.

    `value` is "score" or "retention". `bounds` is the range of the y axis and `positives` the sizes
    that get a colour. Both cover all models shown, so that figures are comparable. The log axis is
    log(1 + n), so that size 0 is at its left end. The line is interrupted where a score is missing.
    """
    present = sorted(int(p) for p in table["positive"].unique() if p > 0)
    all_positives = sorted({*positives, *present})
    style = {
        positive: (colour, dash, marker)
        for (positive, colour), dash, marker in zip(
            size_colours(all_positives).items() if all_positives else (),
            size_dashes(all_positives).values(),
            size_markers(all_positives).values(),
            strict=True,
        )
    }
    figure = go.Figure()
    for positive in present:
        points = table[table["positive"] == positive].sort_values("negative")
        _add_curve(figure, points, positive, style[positive], value, logarithmic)
    _add_baseline(figure, table, value, logarithmic)
    if logarithmic:
        shown = apart(sorted(int(n) for n in table["negative"].unique()))
        figure.update_xaxes(
            tickmode="array",
            tickvals=[math.log10(1 + n) for n in shown],
            ticktext=[format_compact(n) for n in shown],
        )
    figure.update_xaxes(title_text=AXIS_LABELS["negative"], zeroline=False)
    figure.update_yaxes(title_text=value, zeroline=False)
    if bounds:
        padding = 0.04 * (bounds[1] - bounds[0]) or 0.05
        figure.update_yaxes(range=[bounds[0] - padding, bounds[1] + padding])
    figure.update_layout(
        uirevision="kept",
        height=430,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        hovermode="closest",
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
    )
    return figure


def reach(table: pd.DataFrame, value: str) -> tuple[float, float]:
    """Return the lowest and highest value of all confidence bands and the baseline."""
    margin = Z95 * table[ERROR[value]].fillna(0)
    base = table["base"] if value == "score" else pd.Series([0.0])
    low, high = (table[value] - margin).min(), (table[value] + margin).max()
    return float(min(low, base.min())), float(max(high, base.max()))


def retention(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with `retention` and its standard error, NaN where the gap is within noise.

    The gap is the aligned minus the base score. The standard error treats the gap as exact, so the
    bands show the noise of the scores only.
    """
    gap = table["aligned"] - table["base"]
    noise = np.hypot(table["aligned_standard_error"], table["base_standard_error"])
    significant = gap.abs() > Z95 * noise
    return table.assign(
        retention=((table["score"] - table["base"]) / gap).where(significant),
        retention_error=(table["standard_error"] / gap.abs()).where(significant),
    )


def _x_values(sizes: pd.Series, logarithmic: bool) -> np.ndarray:
    values: np.ndarray = sizes.to_numpy(float)
    return np.log10(1 + values) if logarithmic else values


def _add_curve(
    figure: go.Figure,
    points: pd.DataFrame,
    positive: int,
    style: tuple[str, str, str],
    value: str,
    logarithmic: bool,
) -> None:
    colour, dash, marker = style
    x, y = _x_values(points["negative"], logarithmic), points[value].to_numpy(float)
    margin = Z95 * points[ERROR[value]].to_numpy(float)
    group = f"p{positive}"
    for run in _contiguous_runs(np.isfinite(y) & np.isfinite(margin)):
        figure.add_scatter(
            x=np.concatenate([x[run], x[run][::-1]]),
            y=np.concatenate([(y + margin)[run], (y - margin)[run][::-1]]),
            fill="toself",
            fillcolor=faint(colour),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            legendgroup=group,
        )
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=positive_label(positive),
        legendgroup=group,
        connectgaps=False,
        line={"color": colour, "width": 2, "dash": dash},
        marker={"size": 7, "color": colour, "symbol": marker},
        customdata=np.stack(
            [points["negative"], y - margin, y + margin, points["seeds"], points["positive"]],
            axis=-1,
        ),
        hovertemplate=f"<b>{positive_label(positive)}</b><br>%{{customdata[0]:,}} negative<br>"
        f"{value} %{{y:.3f}} [%{{customdata[1]:.3f}}, %{{customdata[2]:.3f}}]<br>"
        "%{customdata[3]} seeds<extra></extra>",
    )


def _contiguous_runs(present: np.ndarray) -> list[np.ndarray]:
    """Return the indices of each run of points without a gap; one band is drawn per run."""
    indices = np.flatnonzero(present)
    return [r for r in np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1) if len(r)]


def _add_baseline(figure: go.Figure, table: pd.DataFrame, value: str, logarithmic: bool) -> None:
    base = table["base"].dropna()
    if value == "score" and base.empty:
        return
    height = 0.0 if value == "retention" else float(base.iloc[0])
    ends = _x_values(pd.Series([0, table["negative"].max()]), logarithmic)
    if value == "score":
        half = Z95 * float(table["base_standard_error"].fillna(0).max())
        figure.add_hrect(height - half, height + half, fillcolor=faint(GREY), line={"width": 0})
    figure.add_scatter(
        x=ends,
        y=[height, height],
        mode="lines",
        name="baseline",
        line={"color": GREY, "dash": "dash", "width": 1.5},
        hovertemplate=f"baseline, before fine-tuning: {height:.3f}<extra></extra>",
    )


def apart(sizes: Sequence[float], share: float = 0.09) -> list[float]:
    """Return those of the ascending `sizes` that can be labelled without overlap.

    Neighbours are at least `share` of the log axis apart.
    """
    span = math.log1p(sizes[-1]) - math.log1p(sizes[0]) if sizes else 0.0
    shown: list[float] = []
    for n in sizes:
        if not shown or math.log1p(n) - math.log1p(shown[-1]) >= share * span:
            shown.append(n)
    return shown
