"""Score against negative size: a line per positive size, a panel per model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from elastic_ray.wording import AXES, compact, positive_label

from .palette import GREY, faint, steps

Z95 = 1.96


def curves(table: pd.DataFrame, *, value: str = "score", logarithmic: bool = True) -> go.Figure:
    """Panels by `label`; `value` is score or retention (the share of the gap that is left).

    The log axis is of log(1 + n), so that 0 has a place of its own at the left. A point without a
    score is a gap in the line, never bridged.
    """
    labels = list(dict.fromkeys(table["label"]))
    positives = sorted(int(p) for p in table["positive"].unique() if p > 0)
    colours = dict(zip(positives, steps(max(len(positives), 1)), strict=False))
    columns = min(len(labels), 3)
    rows = math.ceil(len(labels) / columns)
    figure = make_subplots(
        rows, columns, shared_xaxes="all", shared_yaxes="all", subplot_titles=labels,
        horizontal_spacing=0.03, vertical_spacing=min(0.16, 0.5 / rows),
    )  # fmt: skip
    for number, label in enumerate(labels):
        at = {"row": number // columns + 1, "col": number % columns + 1}
        panel = table[table["label"] == label]
        for positive in positives:
            line = panel[panel["positive"] == positive].sort_values("negative")
            if len(line):
                _line(figure, line, positive, colours[positive], value, logarithmic, number, at)
        _base(figure, panel, value, number, at)
    _axes(figure, table, value, logarithmic, rows, columns)
    figure.update_layout(
        height=max(430, 300 * rows + 90),
        margin={"l": 60, "r": 10, "t": 70, "b": 20},
        hovermode="closest",
        legend={"orientation": "h", "y": -0.16 / rows, "yanchor": "top", "x": 0},
    )
    return figure


def retention(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `retention` and its standard error, undefined where the gap is within noise.

    The error is that of (score - base) with the gap taken as known: bands show the curve's own
    noise, not the scale's.
    """
    gap = table["aligned"] - table["base"]
    noise = np.hypot(table["aligned_standard_error"], table["base_standard_error"])
    clear = gap.abs() > Z95 * noise
    return table.assign(
        retention=((table["score"] - table["base"]) / gap).where(clear),
        retention_error=(table["standard_error"] / gap.abs()).where(clear),
    )


def _place(sizes: pd.Series, logarithmic: bool) -> np.ndarray:
    return np.log10(1 + sizes.to_numpy(float)) if logarithmic else sizes.to_numpy(float)


def _line(
    figure: go.Figure, line: pd.DataFrame, positive: int, colour: str, value: str,
    logarithmic: bool, number: int, at: dict[str, int],
) -> None:  # fmt: skip
    x, y = _place(line["negative"], logarithmic), line[value].to_numpy(float)
    spread = "standard_error" if value == "score" else "retention_error"
    half = Z95 * line[spread].to_numpy(float)
    group = f"p{positive}"
    for run in _runs(np.isfinite(y) & np.isfinite(half)):
        figure.add_scatter(
            x=np.concatenate([x[run], x[run][::-1]]),
            y=np.concatenate([(y + half)[run], (y - half)[run][::-1]]),
            fill="toself", fillcolor=faint(colour), line={"width": 0}, mode="lines",
            hoverinfo="skip", showlegend=False, legendgroup=group, **at,
        )  # fmt: skip
    figure.add_scatter(
        x=x, y=y, mode="lines+markers", name=positive_label(positive), legendgroup=group,
        showlegend=number == 0, connectgaps=False,
        line={"color": colour, "width": 2}, marker={"size": 6, "color": colour},
        customdata=np.stack([line["negative"], y - half, y + half, line["seeds"]], axis=-1),
        hovertemplate=f"<b>{positive_label(positive)}</b><br>%{{customdata[0]:,}} negative<br>"
        f"{value} %{{y:.3f}} [%{{customdata[1]:.3f}}, %{{customdata[2]:.3f}}]<br>"
        "%{customdata[3]} seeds<extra></extra>",
        **at,
    )  # fmt: skip


def _runs(present: np.ndarray) -> list[np.ndarray]:
    """Indices of each unbroken run of points: a band does not cross a hole."""
    where = np.flatnonzero(present)
    return [r for r in np.split(where, np.flatnonzero(np.diff(where) > 1) + 1) if len(r)]


def _base(
    figure: go.Figure, panel: pd.DataFrame, value: str, number: int, at: dict[str, int]
) -> None:
    known = panel["base"].dropna()
    if value == "score" and known.empty:
        return
    height = 0.0 if value == "retention" else float(known.iloc[0])
    figure.add_hline(height, line={"color": GREY, "dash": "dash", "width": 1.5}, **at)
    if number == 0:
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name="base line (before fine-tuning)",
            line={"color": GREY, "dash": "dash", "width": 1.5}, **at,
        )  # fmt: skip


def _axes(
    figure: go.Figure, table: pd.DataFrame, value: str, logarithmic: bool, rows: int, columns: int
) -> None:
    sizes = sorted(int(n) for n in table["negative"].unique())
    if logarithmic:
        shown = apart(sizes)
        figure.update_xaxes(
            tickmode="array", tickvals=[math.log10(1 + n) for n in shown],
            ticktext=[compact(n) for n in shown],
        )  # fmt: skip
    figure.update_xaxes(zeroline=False)
    figure.update_yaxes(zeroline=False)
    for column in range(1, columns + 1):
        figure.update_xaxes(title_text=AXES["negative"], row=rows, col=column)
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text="score" if value == "score" else "retention", row=row, col=1)


def apart(sizes: Sequence[float], share: float = 0.09) -> list[float]:
    """Ascending sizes whose labels do not collide: this share of the log axis apart."""
    span = math.log1p(sizes[-1]) - math.log1p(sizes[0]) if sizes else 0.0
    shown: list[float] = []
    for n in sizes:
        if not shown or math.log1p(n) - math.log1p(shown[-1]) >= share * span:
            shown.append(n)
    return shown
