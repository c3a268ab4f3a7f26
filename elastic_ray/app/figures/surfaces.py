"""Figures of surfaces by positive and negative size: in 3D, as a heatmap, and as a difference.

A point without a score is a gap in all of them; the heatmap marks it as failed or pending.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from elastic_ray.analysis.formatting import format_compact, format_fixed
from elastic_ray.analysis.labels import AXIS_LABELS
from elastic_ray.analysis.palette import GREY

from .curves import ERROR, Z95
from .palette import DIVERGING, SCALE


def surface(table: pd.DataFrame, value: str, bounds: tuple[float, float]) -> go.Figure:
    """Return one model's surface in 3D on log sizes; `bounds` limit height and colour."""
    z, negatives, positives = _grid(table, value)
    x, y = np.log10(1 + np.array(negatives, float)), np.log10(1 + np.array(positives, float))
    labels = np.array([[f"{p:,} positive, {n:,} negative" for n in negatives] for p in positives])
    figure = go.Figure(
        go.Surface(
            x=x,
            y=y,
            z=z,
            text=labels,
            connectgaps=False,
            colorscale=SCALE,
            cmin=bounds[0],
            cmax=bounds[1],
            colorbar={"orientation": "h", "thickness": 10, "len": 0.6, "y": 0, "yanchor": "top"},
            contours={"z": {"show": True, "usecolormap": True, "width": 1}},
            hovertemplate=f"%{{text}}<br>{value} %{{z:.3f}}<extra></extra>",
        )
    )
    # plotly draws no surface for a single row or column of scores, but it draws points
    figure.add_scatter3d(
        x=np.tile(x, len(y)),
        y=np.repeat(y, len(x)),
        z=z.ravel(),
        mode="markers",
        marker={"size": 2.5, "color": GREY},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_layout(
        uirevision="kept",
        height=440,
        margin={"l": 0, "r": 0, "t": 10, "b": 0},
        scene={
            "xaxis": {"title": {"text": "negative"}, **_ticks(negatives)},
            "yaxis": {"title": {"text": "positive"}, **_ticks(positives)},
            "zaxis": {"title": {"text": value}, "range": list(bounds), "nticks": 6},
            "camera": {"eye": {"x": 1.5, "y": -1.7, "z": 0.8}, "center": {"z": -0.12}},
            "aspectratio": {"x": 1.15, "y": 1, "z": 0.75},
        },
    )
    return figure


def heatmap(table: pd.DataFrame, value: str, bounds: tuple[float, float]) -> go.Figure:
    """Return one model's heatmap; a missing cell is marked ✕ if it failed and · if pending."""
    z, negatives, positives = _grid(table, value)
    error, _, _ = _grid(table, ERROR[value])
    failed, _, _ = _grid(table, "failed")
    texts = np.where(np.isfinite(z), _short(z), np.where(np.nan_to_num(failed) > 0, "✕", "·"))
    return _cells(
        z,
        negatives,
        positives,
        texts,
        Z95 * error,
        value,
        {"colorscale": SCALE, "zmin": bounds[0], "zmax": bounds[1]},
    )


def difference(one: pd.DataFrame, other: pd.DataFrame, value: str) -> go.Figure:
    """Return `one` minus `other` at the sizes both have, in brackets if the interval includes 0."""
    at = ["positive", "negative"]
    columns = [*at, value, ERROR[value]]
    both = one[columns].merge(other[columns], on=at, suffixes=("", "_other"))
    both["difference"] = both[value] - both[f"{value}_other"]
    both["error"] = np.hypot(both[ERROR[value]], both[f"{ERROR[value]}_other"])
    z, negatives, positives = _grid(both, "difference")
    half = Z95 * _grid(both, "error")[0]
    most = float(np.nanmax(np.abs(z))) if np.isfinite(z).any() else 1.0
    texts = np.where(np.isfinite(z), _short(z, signed=True), "·")
    texts = np.where(np.abs(z) <= half, np.char.add(np.char.add("(", texts), ")"), texts)
    return _cells(
        z,
        negatives,
        positives,
        texts,
        half,
        f"difference in {value}",
        {"colorscale": DIVERGING, "zmin": -most or -1.0, "zmax": most or 1.0},
    )


def _grid(table: pd.DataFrame, column: str) -> tuple[np.ndarray, list[int], list[int]]:
    """Return the values as [positive, negative], NaN for missing ones, and the sizes."""
    wide = table.pivot_table(
        index="positive", columns="negative", values=column, dropna=False, aggfunc="first"
    ).astype(float)
    return np.asarray(wide.to_numpy()), [int(n) for n in wide.columns], [int(p) for p in wide.index]


def _cells(
    z: np.ndarray,
    negatives: list[int],
    positives: list[int],
    texts: np.ndarray,
    half: np.ndarray,
    value: str,
    colours: dict[str, Any],
) -> go.Figure:
    hover_texts = np.array(
        [
            [
                f"{p:,} positive, {n:,} negative<br>{value} {z[i, j]:.3f} ± {half[i, j]:.3f}"
                for j, n in enumerate(negatives)
            ]
            for i, p in enumerate(positives)
        ]
    )
    figure = go.Figure(
        go.Heatmap(
            x=list(range(len(negatives))),
            y=list(range(len(positives))),
            z=z,
            text=texts,
            texttemplate="%{text}" if z.size <= 150 else None,
            customdata=hover_texts,
            hovertemplate="%{customdata}<extra></extra>",
            hoverongaps=False,
            xgap=2,
            ygap=2,
            colorbar={"title": {"text": value.replace("difference in", "Δ")}, "thickness": 12},
            **colours,
        )
    )
    if z.size <= 150:  # plotly writes no text into missing cells
        for i, j in np.argwhere(~np.isfinite(z)).tolist():
            figure.add_annotation(x=j, y=i, text=texts[i, j], showarrow=False)
    figure.update_layout(
        height=max(260, 130 + 42 * len(positives)), margin={"l": 10, "r": 0, "t": 30, "b": 10}
    )
    # positions, not names: plotly would read the category "160" as the 160th
    for update, name, sizes in (
        (figure.update_xaxes, "negative", negatives),
        (figure.update_yaxes, "positive", positives),
    ):
        update(
            title_text=AXIS_LABELS[name],
            tickmode="array",
            tickvals=list(range(len(sizes))),
            ticktext=[format_compact(size) for size in sizes],
            showgrid=False,
            zeroline=False,
        )
    return figure


def _short(values: np.ndarray, signed: bool = False) -> np.ndarray:
    def text(value: float) -> str:
        if not np.isfinite(value):
            return ""
        shown = format_fixed(value, 2)
        return f"+{shown}" if signed and not shown.startswith("-") else shown

    texts: np.ndarray = np.vectorize(text, otypes=["U8"])(values)
    return texts


def _ticks(sizes: list[int]) -> dict[str, Any]:
    shown = sizes if len(sizes) <= 6 else sizes[:: -(-len(sizes) // 6)]
    return {
        "tickmode": "array",
        "tickvals": [float(np.log10(1 + n)) for n in shown],
        "ticktext": [format_compact(n) for n in shown],
    }
