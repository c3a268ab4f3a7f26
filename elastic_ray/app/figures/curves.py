"""Figure of one model's curves: score against negative size, a line per positive size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from elastic_ray.analysis.formatting import format_compact
from elastic_ray.analysis.labels import AXIS_LABELS, positive_label

from .palette import GREY, faint, steps

Z95 = 1.96
"""Standard errors on each side of a normal 95% interval."""

ERROR = {"score": "standard_error", "retention": "retention_error"}
"""The column with the standard error of each value."""


def curves(
    table: pd.DataFrame,
    *,
    value: str = "score",
    logarithmic: bool = True,
    bounds: tuple[float, float] | None = None,
    positives: Sequence[int] = (),
) -> go.Figure:
    """Return the curves of one model, with the baseline dashed.

    `value` is "score" or "retention". `bounds` (of y) and `positives` are those of all models
    shown, so that heights and colours are comparable between figures. The log axis is log(1 + n),
    which places 0 at the left end. A point without a score breaks the line.
    """
    present = sorted(int(p) for p in table["positive"].unique() if p > 0)
    every = sorted({*positives, *present})
    colours = dict(zip(every, steps(max(len(every), 1)), strict=False))
    figure = go.Figure()
    for positive in present:
        line = table[table["positive"] == positive].sort_values("negative")
        _line(figure, line, positive, colours[positive], value, logarithmic)
    _base(figure, table, value, logarithmic)
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
        room = 0.04 * (bounds[1] - bounds[0]) or 0.05
        figure.update_yaxes(range=[bounds[0] - room, bounds[1] + room])
    figure.update_layout(
        uirevision="kept",
        height=430,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        hovermode="closest",
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
    )
    return figure


def reach(table: pd.DataFrame, value: str) -> tuple[float, float]:
    """Return the lowest and highest value of any band or baseline."""
    half = Z95 * table[ERROR[value]].fillna(0)
    base = table["base"] if value == "score" else pd.Series([0.0])
    low, high = (table[value] - half).min(), (table[value] + half).max()
    return float(min(low, base.min())), float(max(high, base.max()))


def retention(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with `retention` and its standard error, NaN where the gap is within noise.

    The error treats the gap as known: bands show the noise of the curve, not that of its scale.
    """
    gap = table["aligned"] - table["base"]
    noise = np.hypot(table["aligned_standard_error"], table["base_standard_error"])
    clear = gap.abs() > Z95 * noise
    return table.assign(
        retention=((table["score"] - table["base"]) / gap).where(clear),
        retention_error=(table["standard_error"] / gap.abs()).where(clear),
    )


def _place(sizes: pd.Series, logarithmic: bool) -> np.ndarray:
    values: np.ndarray = sizes.to_numpy(float)
    return np.log10(1 + values) if logarithmic else values


def _line(
    figure: go.Figure,
    line: pd.DataFrame,
    positive: int,
    colour: str,
    value: str,
    logarithmic: bool,
) -> None:
    x, y = _place(line["negative"], logarithmic), line[value].to_numpy(float)
    half = Z95 * line[ERROR[value]].to_numpy(float)
    group = f"p{positive}"
    for run in _runs(np.isfinite(y) & np.isfinite(half)):
        figure.add_scatter(
            x=np.concatenate([x[run], x[run][::-1]]),
            y=np.concatenate([(y + half)[run], (y - half)[run][::-1]]),
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
        line={"color": colour, "width": 2},
        marker={"size": 6, "color": colour},
        customdata=np.stack([line["negative"], y - half, y + half, line["seeds"]], axis=-1),
        hovertemplate=f"<b>{positive_label(positive)}</b><br>%{{customdata[0]:,}} negative<br>"
        f"{value} %{{y:.3f}} [%{{customdata[1]:.3f}}, %{{customdata[2]:.3f}}]<br>"
        "%{customdata[3]} seeds<extra></extra>",
    )


def _runs(present: np.ndarray) -> list[np.ndarray]:
    """Return the indices of each unbroken run of points; bands do not cross missing points."""
    where = np.flatnonzero(present)
    return [r for r in np.split(where, np.flatnonzero(np.diff(where) > 1) + 1) if len(r)]


def _base(figure: go.Figure, table: pd.DataFrame, value: str, logarithmic: bool) -> None:
    known = table["base"].dropna()
    if value == "score" and known.empty:
        return
    height = 0.0 if value == "retention" else float(known.iloc[0])
    ends = _place(pd.Series([0, table["negative"].max()]), logarithmic)
    figure.add_scatter(
        x=ends,
        y=[height, height],
        mode="lines",
        name="baseline",
        line={"color": GREY, "dash": "dash", "width": 1.5},
        hovertemplate=f"baseline, before fine-tuning: {height:.3f}<extra></extra>",
    )


def apart(sizes: Sequence[float], share: float = 0.09) -> list[float]:
    """Return the sizes, of ascending ones, that are at least `share` of the log axis apart.

    Their labels do not overlap.
    """
    span = math.log1p(sizes[-1]) - math.log1p(sizes[0]) if sizes else 0.0
    shown: list[float] = []
    for n in sizes:
        if not shown or math.log1p(n) - math.log1p(shown[-1]) >= share * span:
            shown.append(n)
    return shown
