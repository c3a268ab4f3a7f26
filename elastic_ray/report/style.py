"""What the report's figures share: axes, colours, legends, and saving as PNG and SVG.

The same numbers give the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from elastic_ray.analysis.formatting import format_compact
from elastic_ray.analysis.palette import (
    CATEGORIES,
    DASHES,
    MARKERS,
    MATPLOTLIB_DASHES,
    MATPLOTLIB_MARKERS,
    size_colours,
    size_dashes,
    size_markers,
)
from elastic_ray.theory.figure_style import figure_style, require_matplotlib


def report_style() -> AbstractContextManager[None]:
    """Return a context that applies the style of the report's figures."""
    return figure_style({"axes.titlesize": 9})


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure without a window; sizes are in inches."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def panels(count: int, across: int = 3, size: tuple[float, float] = (3.1, 2.6)) -> tuple[Any, Any]:
    """Return a figure and its `count` axes, which share their scales, in rows of `across`."""
    columns = min(count, across)
    rows = -(-count // columns)
    figure = new_figure(max(columns * size[0], 4.2), rows * size[1] + 0.7)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for unused in axes[count:]:
        unused.remove()
    for i, ax in enumerate(axes[:count]):
        ax.tick_params(labelbottom=i + columns >= count, labelleft=i % columns == 0)
    return figure, axes[:count]


def size_looks(sizes: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return colour, dash and marker of each size, as matplotlib takes them; those of the app."""
    colours, dashes, markers = size_colours(sizes), size_dashes(sizes), size_markers(sizes)
    return {size: _look(colours[size], dashes[size], markers[size]) for size in colours}


def look(place: int) -> dict[str, Any]:
    """Return colour, dash and marker of the category at a place, as matplotlib takes them."""
    return _look(
        CATEGORIES[place % len(CATEGORIES)],
        DASHES[place % len(DASHES)],
        MARKERS[place % len(MARKERS)],
    )


def _look(colour: str, dash: str, marker: str) -> dict[str, Any]:
    return {
        "color": colour,
        "linestyle": MATPLOTLIB_DASHES[dash],
        "marker": MATPLOTLIB_MARKERS[marker],
    }


def size_axis(ax: Any, sizes: Sequence[int]) -> None:
    """Make x a logarithmic axis of negative sizes that starts at 0, with as many labels as fit."""
    above = sorted(size for size in sizes if size > 0)
    if not above:
        return
    ax.set_xscale("symlog", linthresh=above[0], linscale=0.6)
    ax.set_xlim(-above[0] * 0.15, above[-1] * 1.4)
    ticks = sorted(set(sizes))
    if len(ticks) > 8:
        ticks = ticks[:: -(-len(ticks) // 8)]
    ax.set_xticks(ticks, [format_compact(size) for size in ticks])
    ax.minorticks_off()


def legend_above(figure: Any, axes: Any, columns: int = 5) -> None:
    """Add one legend for all axes, above them: below, matplotlib would draw it over the x label."""
    labels: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            labels.setdefault(label, handle)
    figure.legend(
        labels.values(), labels.keys(), loc="outside upper center", ncols=columns, frameon=False
    )


def save(figure: Any, folder: Path, name: str, *, pdf: bool = False) -> tuple[Path, Path]:
    """Write the figure to `name`.png and `name`.svg, with `pdf` also `name`.pdf.

    Returns the paths of the first two.
    """
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with report_style():
        figure.savefig(png, dpi=150, metadata={"Software": None})
        figure.savefig(svg, metadata={"Date": None})
        if pdf:
            figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    return png, svg
