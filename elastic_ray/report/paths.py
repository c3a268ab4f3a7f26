"""The report's section on inverse and forward paths: the paper's Table 1, measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from elastic_ray.analysis.captions import CAPTIONS
from elastic_ray.analysis.labels import METRIC_LABELS, model_label
from elastic_ray.analysis.measurements import Row
from elastic_ray.analysis.table_rows import PATHS_QUESTION, answer_paths_question
from elastic_ray.elasticity import DIRECTIONS, Estimate, told_apart

from .findings import Findings
from .page import Section
from .style import legend_above, look, panels
from .table import Table

ANSWERED = ("cross_entropy", "kl")
"""The distances that get a sentence and a figure; the section's table has all distances."""


def section(found: Findings) -> Section | None:
    """Return the section, with a sentence per distance in `ANSWERED`; None without lessons."""
    if not found.lessons:
        return None
    sentences = [
        answer_paths_question(metric, told_apart(rows))
        for metric in ANSWERED
        if (rows := _rows(found, metric))
    ]
    pending = ["Paths are compared at the end of the sweep; none is compared yet."]
    items = ("paths", "paths_kl", "inverse_forward")
    return Section("paths", "Inverse and forward", PATHS_QUESTION, sentences or pending, items)


def _rows(found: Findings, metric: str) -> list[Row]:
    """Return the rows of one distance, by task and model size, then as in the paper's Table 1."""
    rows = [row for row in found.paths if row["metric"] == metric]
    return sorted(
        rows,
        key=lambda row: (
            row["task"], row["parameters"] or 0, row["model"], row["pretrain"] or 0,
            row["l"] - row["k"], row["k"],
        ),
    )  # fmt: skip


def _name(found: Findings, row: Row) -> str:
    return model_label(row["model"], row["pretrain"], row["task"] if len(found.tasks) > 1 else None)


def disagreeing(found: Findings) -> int:
    """Count the pairs where the intervals of cross-entropy and KL lie differently around 0."""
    sides: dict[tuple[Any, ...], set[tuple[int, ...]]] = {}
    for metric in ANSWERED:
        for row in _rows(found, metric):
            if row["difference_low"] is not None:
                pair = tuple(row[name] for name in ("task", "model", "pretrain", "k", "l"))
                sides.setdefault(pair, set()).add(told_apart([row]))
    return sum(len(found_sides) > 1 for found_sides in sides.values())


def distances(found: Findings, metric: str) -> Any:
    """Return a figure of both paths of each pair with 95% intervals, one panel per model.

    Hollow symbols are the values printed in the paper.
    """
    by_model: dict[str, list[Row]] = {}
    for row in _rows(found, metric):
        by_model.setdefault(_name(found, row), []).append(row)
    if not any(row["inverse"] is not None for rows in by_model.values() for row in rows):
        return None
    pairs = list(dict.fromkeys((r["k"], r["l"]) for rows in by_model.values() for r in rows))
    figure, axes = panels(len(by_model))
    for ax, (name, rows) in zip(axes, by_model.items(), strict=True):
        for place, (direction, side) in enumerate(zip(DIRECTIONS, (-0.1, 0.1), strict=True)):
            colour, marker = look(place)["color"], look(place)["marker"]
            x = np.array([pairs.index((row["k"], row["l"])) for row in rows], float)
            y, low, high, printed = (
                np.array([row[column] for row in rows], float)
                for column in (
                    direction, f"{direction}_low", f"{direction}_high", f"printed_{direction}"
                )
            )  # fmt: skip
            errors = np.nan_to_num([y - low, high - y])
            ax.errorbar(
                x + side, y, yerr=errors, fmt=marker, markersize=4, color=colour, linewidth=1,
                capsize=2, label=direction,
            )  # fmt: skip
            if np.isfinite(printed).any():
                ax.plot(
                    x + 2 * side, printed, "D", markersize=4, color=colour, fillstyle="none",
                    label=f"{direction}, in the paper",
                )  # fmt: skip
        ax.set_title(name)
        ax.set_xticks(range(len(pairs)), [f"{k}, {last}" for k, last in pairs])
        ax.set_xlim(-0.5, len(pairs) - 0.5)
        ax.grid(False, axis="x")
    figure.supxlabel("slices k, l", fontsize=9)
    figure.supylabel(f"{METRIC_LABELS[metric]}, nats", fontsize=9)
    legend_above(figure, axes, 4)
    return figure


def table(found: Findings) -> Table:
    """Return the table of all pairs and distances, with the values printed in the paper, if any."""
    rows = [row for metric in METRIC_LABELS for row in _rows(found, metric)]
    printed = any(row["printed_inverse"] is not None for row in rows)
    headings: tuple[str, ...] = (
        *("model", "slices", "distance", *DIRECTIONS, "forward - inverse", "p", "prompts"),
        *("seeds", "seeds inverse < forward"),
    )
    if printed:
        headings = (*headings, "printed inverse", "printed forward")
    cells = [
        (
            _name(found, row), f"{row['k']}, {row['l']}", METRIC_LABELS[row["metric"]],
            *(
                Estimate(*(row[f"{name}{end}"] for end in ("", "_low", "_high")))
                for name in (*DIRECTIONS, "difference")
            ),
            row["p_value"], row["prompts"], row["seeds"], row["seeds_inverse_nearer"],
            *((row["printed_inverse"], row["printed_forward"]) if printed else ()),
            row["note"] or "",
        )
        for row in rows
    ]  # fmt: skip
    return Table("inverse_forward", CAPTIONS["inverse_forward"], (*headings, "note"), tuple(cells))
