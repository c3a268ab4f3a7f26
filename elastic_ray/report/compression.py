"""The report's section on code lengths: sentences of `theory.answer_question`, figures, a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from elastic_ray.analysis.captions import CAPTIONS
from elastic_ray.analysis.formatting import format_compact
from elastic_ray.analysis.labels import (
    AXIS_LABELS,
    DISTRIBUTION_LABELS,
    model_label,
    positive_label,
)
from elastic_ray.analysis.table_rows import COMPRESSION_COLUMNS, format_compression_row
from elastic_ray.elasticity import Estimate
from elastic_ray.theory import (
    QUESTION,
    answer_question,
    curve_rows,
    first_clear_point,
    times_faster,
)

from .findings import Findings
from .page import Section
from .style import legend_above, look, new_figure, panels, size_axis
from .table import Table


def section(found: Findings) -> Section | None:
    """Return the section, its answer first; None if the sweep measures no code lengths."""
    sentences = answer_question(found.coded)
    items = ("code_lengths", "faster", "compression")
    if not sentences:
        return None
    return Section("compression", "Compression", QUESTION, sentences, items)


def labels(found: Findings) -> list[str]:
    """Return the label of each curve's model."""
    several = len(found.tasks) > 1
    return [
        model_label(coded.model, coded.pretrain, coded.task if several else None)
        for coded, _ in found.coded
    ]


def code_lengths(found: Findings) -> Any:
    """Return a figure with a panel per curve: the change in code lengths with negative examples."""
    if not found.coded:
        return None
    figure, axes = panels(len(found.coded))
    for ax, (coded, points), label in zip(axes, found.coded, labels(found), strict=True):
        x = [point.negative for point in points]
        for j, name in enumerate(DISTRIBUTION_LABELS.values()):
            changes = [point.change[j] for point in points]
            ax.plot(x, [c.value for c in changes], markersize=3, label=name, **look(j))
            ax.fill_between(
                x,
                [c.low for c in changes],
                [c.high for c in changes],
                color=look(j)["color"],
                alpha=0.15,
                linewidth=0,
            )
        ax.axhline(0, color="black", linestyle="--", linewidth=0.8)
        ax.set_title(f"{label}\n{positive_label(coded.positive)}, k = {coded.k:.3g}")
        size_axis(ax, x)
    figure.supxlabel(AXIS_LABELS["negative"], fontsize=9)
    figure.supylabel("change, bits per byte", fontsize=9)
    legend_above(figure, axes, 3)
    return figure


def faster(found: Findings) -> Any:
    """Return a figure of how many times faster alignment is undone, against k, with y = k."""
    shown = [
        (coded.k, ratio, label)
        for (coded, points), label in zip(found.coded, labels(found), strict=True)
        if (ratio := times_faster(first_clear_point(points))) is not None
    ]
    if not shown:
        return None
    figure = new_figure(6.4, 3.8)
    ax = figure.subplots()
    ks = sorted({k for k, _, _ in shown})
    line = [ks[0] / 1.5, ks[-1] * 1.5]
    bounded = [ratio.high for _, ratio, _ in shown if np.isfinite(ratio.high)]
    edge = 1.5 * max(line[1], *bounded)  # an unbounded interval runs off the top here
    ax.plot(line, line, "--", color="black", linewidth=1, label="k times")
    for place, name in enumerate(dict.fromkeys(label for _, _, label in shown)):
        colour, marker = look(place)["color"], look(place)["marker"]
        for k, ratio, label in shown:
            if label == name:
                x = k * (1 + 0.03 * place)  # a small offset, so that models do not overlap
                ax.plot([x, x], [ratio.low, min(ratio.high, edge)], color=colour, linewidth=1)
                ax.plot(x, ratio.value, marker, markersize=4, color=colour, label=name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(ks, [format_compact(float(f"{k:.3g}")) for k in ks])
    ax.set_ylim(top=edge)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.set_xlabel("k = pre-training / positive examples")
    ax.set_ylabel("times faster")
    legend_above(figure, [ax], 2)
    return figure


def table(found: Findings) -> Table:
    """Return the table of every curve and negative size."""
    made = []
    for row in curve_rows(found.coded, labels(found)):
        formatted = format_compression_row(row)
        made.append(
            tuple(
                Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])
                if f"{name}_low" in row and name in row
                else row.get(name, formatted[name])
                for name in COMPRESSION_COLUMNS
            )
        )
    heads = tuple(COMPRESSION_COLUMNS.values())
    return Table("compression", CAPTIONS["compression"], heads, tuple(made))
