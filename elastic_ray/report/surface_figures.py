"""Figures of score surfaces over positive and negative examples: heatmaps, 3D surfaces and fits.

Each public function returns a matplotlib figure, or None if the sweep has nothing to show in it. A
missing point leaves its cell empty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from elastic_ray.analysis.formatting import format_compact, format_fixed
from elastic_ray.analysis.labels import AXIS_LABELS, positive_label
from elastic_ray.elasticity import Measurement, Surface, SurfaceFit

from .findings import Findings
from .style import legend_above, new_figure, size_axis, size_looks


def heatmap(found: Findings, what: str) -> Any:
    """Return a panel per model with a number in each cell, all on one scale.

    `what` is "score" or "retention".
    """
    if not found.surfaces:
        return None
    negatives = list(found.negatives)
    positives = sorted({p for s in found.surfaces for p in s.positives})
    tables = [_table(found, surface, what, positives, negatives) for surface in found.surfaces]
    known = np.concatenate([t[np.isfinite(t)] for t in tables])
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    if what == "retention":
        high = min(max(1.0, high, -low), 2.5)
        low = -high  # white is the baseline; values further out take the last colour
    figure = new_figure(max(0.55 * len(negatives) + 2.6, 5), _height(len(tables), len(positives)))
    axes = figure.subplots(len(tables), 1, squeeze=False, sharex=True).ravel()
    image = None
    for ax, table, surface in zip(axes, tables, found.surfaces, strict=True):
        ax.set_facecolor("#eeeeee")
        image = ax.imshow(
            table, aspect="auto", vmin=low, vmax=high, origin="lower",
            cmap="PuOr" if what == "retention" else "viridis",
        )  # fmt: skip
        for (row, column), value in np.ndenumerate(table):
            shown = "" if math.isnan(value) else format_fixed(value, 2)
            colour = _readable(image.cmap(image.norm(value)) if shown else None)
            ax.text(column, row, shown, ha="center", va="center", color=colour, fontsize=7.5)
        ax.set_xticks(range(len(negatives)), [format_compact(n) for n in negatives])
        ax.set_yticks(range(len(positives)), [format_compact(p) for p in positives])
        ax.set_title(found.name(surface.key))
        ax.grid(False)
    figure.supxlabel(AXIS_LABELS["negative"], fontsize=9)
    figure.supylabel(AXIS_LABELS["positive"], fontsize=9)
    figure.colorbar(image, ax=axes, label=what, shrink=min(1.0, 1.6 / len(tables) + 0.3))
    return figure


def _height(panels: int, rows: int) -> float:
    return panels * (0.34 * rows + 0.45) + 0.7


def _table(
    found: Findings, surface: Surface, what: str, positives: list[int], negatives: list[int]
) -> Any:
    table = np.full((len(positives), len(negatives)), np.nan)
    mine = {id(c): m for m in found.measurements for c in (m.curve,)}
    for curve in surface.curves:
        m = mine[id(curve)]
        for n, e in zip(curve.negatives, m.scores if what == "score" else m.retention, strict=True):
            if e.value is not None:
                table[positives.index(curve.key.positive), negatives.index(n)] = e.value
    return table


def _readable(background: Any) -> str:
    if background is None:
        return "black"
    red, green, blue = background[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def surfaces(found: Findings) -> Any:
    """Return the fitted surfaces in 3D with the measured scores, one scale for all models."""
    fits = [f for f in found.fits if len(f.surface.positives) > 1]
    if not fits:
        return None
    columns = min(len(fits), 3)
    rows = -(-len(fits) // columns)
    figure = new_figure(max(3.4 * columns, 4.5), 2.9 * rows + 0.2)
    low, high = _span(fits)
    for i, fit in enumerate(fits):
        ax = figure.add_subplot(rows, columns, i + 1, projection="3d")
        _one_surface(ax, fit, low, high)
        ax.set_title(found.name(fit.surface.key), y=1.0)
    return figure


def _span(fits: Iterable[SurfaceFit]) -> tuple[float, float]:
    values = np.concatenate(
        [np.append(f.surface.mean[np.isfinite(f.surface.mean)], f.surface.base or ()) for f in fits]
    )
    return float(values.min()), float(values.max())


def _one_surface(ax: Any, fit: SurfaceFit, low: float, high: float) -> None:
    surface = fit.surface
    sizes = np.array(surface.negatives, float)
    first = min(sizes[sizes > 0], default=1.0)

    def across(n: Any) -> Any:
        # 0 has no logarithm: it is drawn a factor of 3 before the smallest size.
        return np.log10(np.maximum(n, first / 3))

    known = [p for p in surface.positives if np.isfinite(fit.predict(p, [0.0])[0])]
    positive = np.geomspace(min(known), max(known), 15)
    negative = np.concatenate([[0.0], np.geomspace(first / 3, sizes.max(), 40)])
    negative = negative[negative != first / 3]
    height = np.stack([fit.predict(p, negative) for p in np.clip(positive, known[0], known[-1])])
    x, y = np.meshgrid(across(negative), np.log10(positive))
    ax.plot_surface(
        x, y, height, cmap="viridis", vmin=low, vmax=high, alpha=0.85, linewidth=0, rcount=15,
        ccount=41,
    )  # fmt: skip
    if surface.base is not None:
        ax.plot_wireframe(
            x, y, np.full_like(x, surface.base), color="black", linewidth=0.4, alpha=0.5, rcount=4,
            ccount=6,
        )  # fmt: skip
    for row, p in enumerate(surface.positives):
        y = np.full(len(sizes), np.log10(p))
        ax.scatter(across(sizes), y, surface.mean[row], color="black", s=8, depthshade=False)
    ticks = sorted(set(surface.negatives))
    ticks = ticks[:: -(-len(ticks) // 4)]
    ax.set_xticks(across(np.array(ticks, float)), [format_compact(t) for t in ticks])
    ax.set_yticks(np.log10(surface.positives), [format_compact(p) for p in surface.positives])
    ax.set_zlim(low, high)
    ax.set_xlabel("negative", labelpad=-2)
    ax.set_ylabel("positive", labelpad=-2)
    ax.set_zlabel("score", labelpad=-4)
    ax.tick_params(pad=-2, labelsize=7)
    ax.view_init(elev=22, azim=40)
    ax.set_box_aspect(None, zoom=0.86)


def fits(found: Findings) -> Any:
    """Return a column per fit: measured scores and fitted lines above, residuals below."""
    if not found.fits:
        return None
    count = len(found.fits)
    figure = new_figure(max(3.1 * count, 4.4), 4.4)
    axes = figure.subplots(2, count, squeeze=False, sharex=True, sharey="row", height_ratios=[2, 1])
    looks = size_looks([p for f in found.fits for p in f.surface.positives])
    measured: Mapping[int, Measurement] = {id(m.curve): m for m in found.measurements}
    for column, fit in enumerate(found.fits):
        above, below = axes[:, column]
        for row, (positive, curve) in enumerate(
            zip(fit.surface.positives, fit.surface.curves, strict=True)
        ):
            colour = looks[positive]["color"]
            grid = np.expm1(np.linspace(0, math.log1p(max(fit.surface.negatives)), 200))
            above.plot(
                grid,
                fit.predict(positive, grid),
                color=colour,
                linestyle=looks[positive]["linestyle"],
            )
            scores = measured[id(curve)].scores
            middle = np.array([math.nan if e.value is None else e.value for e in scores])
            arms = np.array([
                [math.nan if end is None else abs(end - e.value) for end in (e.low, e.high)]
                for e in scores if e.value is not None
            ]).reshape(-1, 2).T  # fmt: skip
            marker = looks[positive]["marker"]
            style = {"fmt": marker, "markersize": 3, "color": colour, "linewidth": 0.9}
            above.errorbar(
                curve.negatives, middle, yerr=arms, label=positive_label(positive), **style
            )
            at = [fit.surface.negatives.index(n) for n in curve.negatives]
            below.errorbar(curve.negatives, fit.residuals[row, at], yerr=arms, **style)
        if fit.surface.base is not None:
            above.axhline(fit.surface.base, color="black", linestyle="--", linewidth=1)
        below.axhline(0, color="black", linewidth=0.8)
        above.set_title(f"{found.name(fit.surface.key)}\n{fit.family.name}")
        size_axis(above, fit.surface.negatives)
    axes[0, 0].set_ylabel("score")
    axes[1, 0].set_ylabel("measured - fitted")
    figure.supxlabel(AXIS_LABELS["negative"], fontsize=9)
    legend_above(figure, axes[0])
    return figure
