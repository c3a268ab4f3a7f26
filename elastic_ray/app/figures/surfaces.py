"""Surfaces over positive and negative sizes: in space, as a heatmap, and the difference of two.

A point without a score is a hole in all of them; the heatmap says whether it failed or is to come.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from elastic_ray.analysis.formatting import format_compact
from elastic_ray.analysis.labels import AXIS_LABELS

from .curves import ERROR, Z95
from .palette import DIVERGING, SCALE


def surface(table: pd.DataFrame, value: str, bounds: tuple[float, float]) -> go.Figure:
    """One model in space: log sizes, `bounds` for height and colour, shared between models."""
    z, negatives, positives = _grid(table, value)
    x, y = np.log10(1 + np.array(negatives, float)), np.log10(1 + np.array(positives, float))
    said = np.array([[f"{p:,} positive, {n:,} negative" for n in negatives] for p in positives])
    figure = go.Figure(
        go.Surface(
            x=x,
            y=y,
            z=z,
            text=said,
            connectgaps=False,
            colorscale=SCALE,
            cmin=bounds[0],
            cmax=bounds[1],
            colorbar={"orientation": "h", "thickness": 10, "len": 0.6, "y": 0, "yanchor": "top"},
            contours={"z": {"show": True, "usecolormap": True, "width": 1}},
            hovertemplate=f"%{{text}}<br>{value} %{{z:.3f}}<extra></extra>",
        )
    )
    # points too: a surface shows a single row or column of scores as nothing
    figure.add_scatter3d(
        x=np.tile(x, len(y)),
        y=np.repeat(y, len(x)),
        z=z.ravel(),
        mode="markers",
        marker={"size": 2.5, "color": "#8a979e"},
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
    """One model as a table of colours; a failed hole reads ✕, one to come ·."""
    z, negatives, positives = _grid(table, value)
    error, _, _ = _grid(table, ERROR[value])
    failed, _, _ = _grid(table, "failed")
    words = np.where(np.isfinite(z), _short(z), np.where(np.nan_to_num(failed) > 0, "✕", "·"))
    return _cells(
        z,
        negatives,
        positives,
        words,
        Z95 * error,
        value,
        {"colorscale": SCALE, "zmin": bounds[0], "zmax": bounds[1]},
    )


def difference(one: pd.DataFrame, other: pd.DataFrame, value: str) -> go.Figure:
    """`one` minus `other` at the sizes both have; in brackets where 0 is within the interval."""
    at = ["positive", "negative"]
    columns = [*at, value, ERROR[value]]
    both = one[columns].merge(other[columns], on=at, suffixes=("", "_other"))
    both["difference"] = both[value] - both[f"{value}_other"]
    both["error"] = np.hypot(both[ERROR[value]], both[f"{ERROR[value]}_other"])
    z, negatives, positives = _grid(both, "difference")
    half = Z95 * _grid(both, "error")[0]
    most = float(np.nanmax(np.abs(z))) if np.isfinite(z).any() else 1.0
    words = np.where(np.isfinite(z), _short(z, signed=True), "·")
    words = np.where(np.abs(z) <= half, np.char.add(np.char.add("(", words), ")"), words)
    return _cells(
        z,
        negatives,
        positives,
        words,
        half,
        f"difference in {value}",
        {"colorscale": DIVERGING, "zmin": -most or -1.0, "zmax": most or 1.0},
    )


def _grid(table: pd.DataFrame, column: str) -> tuple[np.ndarray, list[int], list[int]]:
    """[positive, negative] values, NaN for holes, and the sizes."""
    wide = table.pivot_table(
        index="positive", columns="negative", values=column, dropna=False, aggfunc="first"
    ).astype(float)
    return wide.to_numpy(), [int(n) for n in wide.columns], [int(p) for p in wide.index]


def _cells(
    z: np.ndarray,
    negatives: list[int],
    positives: list[int],
    words: np.ndarray,
    half: np.ndarray,
    value: str,
    colours: dict,
) -> go.Figure:
    said = np.array(
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
            text=words,
            texttemplate="%{text}" if z.size <= 150 else None,
            customdata=said,
            hovertemplate="%{customdata}<extra></extra>",
            hoverongaps=False,
            xgap=2,
            ygap=2,
            colorbar={"title": {"text": value.replace("difference in", "Δ")}, "thickness": 12},
            **colours,
        )
    )
    if z.size <= 150:  # a heatmap writes no text into its gaps
        for i, j in np.argwhere(~np.isfinite(z)).tolist():
            figure.add_annotation(x=j, y=i, text=words[i, j], showarrow=False)
    figure.update_layout(
        height=max(260, 130 + 42 * len(positives)), margin={"l": 10, "r": 0, "t": 30, "b": 10}
    )
    # places, not names: plotly would take the category "160" for the 160th
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
    form = "{:+.2f}" if signed else "{:.2f}"
    return np.vectorize(lambda v: form.format(v) if np.isfinite(v) else "", otypes=["U8"])(values)


def _ticks(sizes: list[int]) -> dict:
    shown = sizes if len(sizes) <= 6 else sizes[:: -(-len(sizes) // 6)]
    return {
        "tickmode": "array",
        "tickvals": [float(np.log10(1 + n)) for n in shown],
        "ticktext": [format_compact(n) for n in shown],
    }
