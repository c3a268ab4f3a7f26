"""Figure of reversion size, half-life and index against model size and pre-training tokens."""

from __future__ import annotations

from typing import Any

from elastic_ray.analysis import conclusions
from elastic_ray.analysis.formatting import format_compact, format_interval, format_p_value
from elastic_ray.analysis.labels import AXIS_LABELS, QUANTITY_LABELS, positive_label
from elastic_ray.elasticity import Estimate, Measurement, Scaling

from .findings import Findings
from .style import legend_above, new_figure, size_looks

SHOWN = ("reversion_size", "half_life", "elasticity_index")


def scaling(found: Findings) -> Any:
    """Return a figure with a row per quantity and a column per comparison.

    None if no two sizes differ.
    """
    columns: dict[tuple[Any, ...], dict[str, Scaling]] = {}
    for s in found.scaling:
        columns.setdefault((s.along, s.fixed), {})[s.quantity] = s
    columns = {
        at: by_quantity
        for at, by_quantity in columns.items()
        if any(by_quantity[quantity].slope.value is not None for quantity in SHOWN)
    }
    if not columns:
        return None
    count = len(columns)
    figure = new_figure(max(3.3 * count, 4.6), 6.6)
    axes = figure.subplots(len(SHOWN), count, squeeze=False, sharex="col", sharey="row")
    looks = size_looks([m.curve.key.positive for m in found.measurements])
    for column, by_quantity in enumerate(columns.values()):
        for row, quantity in enumerate(SHOWN):
            ax, s = axes[row, column], by_quantity[quantity]
            _points(ax, found, s, looks)
            ax.set_title(_title(s), fontsize=8)
            if column == 0:
                ax.set_ylabel(QUANTITY_LABELS[quantity].short)
        bottom = axes[-1, column]
        first = next(iter(by_quantity.values()))
        bottom.set_xlabel(
            f"{AXIS_LABELS[first.along]}\n({common_settings(found, first)})", fontsize=8
        )
        bottom.set_xscale("log")
        bottom.set_xlim(first.sizes[0] / 1.5, first.sizes[-1] * 1.5)
        ticks = list(dict.fromkeys(first.sizes))
        bottom.set_xticks(ticks, [format_compact(tick) for tick in ticks])
        bottom.minorticks_off()
    legend_above(figure, axes.ravel())
    return figure


def _points(ax: Any, found: Findings, s: Scaling, looks: dict[int, dict[str, Any]]) -> None:
    for at, positive in enumerate(s.positives):
        shift = 1 + 0.06 * (at - (len(s.positives) - 1) / 2)  # side by side, not on one another
        points = []
        for size, (model, pretrain) in zip(s.sizes, s.models, strict=True):
            m = _of(found, s, model, pretrain, positive)
            e: Estimate = getattr(m, s.quantity) if m else Estimate()
            if e.value is not None:
                points.append((size * shift, e))
        style = looks[positive]
        colour = style["color"]
        ax.plot([x for x, _ in points], [e.value for _, e in points], linewidth=0.8, markersize=0,
                label=positive_label(positive), **style)  # fmt: skip
        for x, e in points:
            bounded = e.low is not None and e.high is not None
            ends = [v for v in (e.low, e.high) if v is not None]
            for end in ends:
                ax.plot([x, x], [e.value, end], color=colour, linewidth=0.9)
            ax.plot(x, e.value, style["marker"], markersize=4, color=colour,
                    markerfacecolor=colour if bounded else "white")  # fmt: skip


def _of(
    found: Findings, s: Scaling, model: str, pretrain: int | None, positive: int
) -> Measurement | None:
    task = dict(s.fixed)["task"]
    for m in found.measurements:
        key = m.curve.key
        if (key.task, key.model, key.pretrain, key.positive) == (task, model, pretrain, positive):
            return m
    return None


def _title(s: Scaling) -> str:
    slope = f"per tenfold size {format_interval(s.slope.value, s.slope.low, s.slope.high)}"
    if s.p_value is None or s.tau is None:
        return slope  # so few models cannot show a trend
    return f"{slope}\ntau = {s.tau:.2f}, {format_p_value(s.p_value)}"


def common_settings(found: Findings, s: Scaling) -> str:
    """Return what the compared models have in common, such as `pre-trained on 4k`."""
    return conclusions.common_settings(s, with_task=len(found.tasks) > 1)
