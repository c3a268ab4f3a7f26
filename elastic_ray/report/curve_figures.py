"""Figures of curves: score against negative examples. A missing point breaks its line.

Each public function returns a matplotlib figure, or None if the sweep has nothing to show in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from elastic_ray.analysis.formatting import format_compact
from elastic_ray.analysis.labels import AXIS_LABELS, positive_label
from elastic_ray.elasticity import Estimate, Measurement

from .findings import Findings
from .style import legend_above, look, panels, size_axis, size_looks


def curves(found: Findings) -> Any:
    """Return a panel per model with a line per positive size: the paper's Figure 3."""
    if not found.measurements:
        return None
    by_model: dict[str, list[Measurement]] = {}
    for m in found.measurements:
        by_model.setdefault(found.name(m.curve.key), []).append(m)
    looks = size_looks([m.curve.key.positive for m in found.measurements])
    figure, axes = panels(len(by_model))
    for ax, (name, group) in zip(axes, by_model.items(), strict=True):
        _base(ax, group[0])
        for m in group:
            positive = m.curve.key.positive
            _line(ax, found, m, looks[positive], positive_label(positive))
        ax.set_title(name)
    _finish(figure, axes, found)
    return figure


def by_parameters(found: Findings) -> Any:
    """Return a panel per pre-training and positive size, a line per model size: Figure 4."""
    groups = _groups(found, ("task", "pretrain", "positive"), "parameters")
    return _by_size(found, groups, "parameters")


def by_pretrain(found: Findings) -> Any:
    """Return a panel per model and positive size, a line per pre-training size: Figure 5."""
    groups = _groups(found, ("task", "line", "positive"), "pretrain_tokens")
    return _by_size(found, groups, "pretrain")


def _groups(found: Findings, fixed: Sequence[str], size: str) -> list[list[Measurement]]:
    """Return the groups of curves that agree in `fixed` and differ in `size`.

    `line` is what differs in pre-training alone: a model, or a family of published checkpoints.
    """
    groups: dict[tuple[Any, ...], list[Measurement]] = {}
    for m in found.measurements:
        if getattr(m.curve, size) is not None:
            at = tuple(
                m.curve.line if name == "line" else getattr(m.curve.key, name) for name in fixed
            )
            groups.setdefault(at, []).append(m)
    return [
        sorted(group, key=lambda m: getattr(m.curve, size))
        for group in groups.values()
        if len({getattr(m.curve, size) for m in group if m.curve.negatives}) > 1
    ]


def _by_size(found: Findings, groups: list[list[Measurement]], size: str) -> Any:
    if not groups:
        return None
    figure, axes = panels(len(groups))
    for ax, group in zip(axes, groups, strict=True):
        key = group[0].curve.key
        for place, m in enumerate(group):
            if size == "parameters":
                label = (
                    f"{m.curve.key.model} ({format_compact(m.curve.parameters or 0)} parameters)"
                )
            else:
                label = _amount(m)
            _base(ax, m, look(place)["color"], None)
            _line(ax, found, m, look(place), label)
        where = group[0].curve.line if size == "pretrain" else _pretraining(key.pretrain)
        ax.set_title(", ".join(filter(None, (where, positive_label(key.positive)))))
    _finish(figure, axes, found, columns=3)
    return figure


def _amount(m: Measurement) -> str:
    """Return how long a model was pre-trained: in examples, or tokens if it is published."""
    if m.curve.key.pretrain is not None:
        return f"pre-trained on {format_compact(m.curve.key.pretrain)} examples"
    return f"pre-trained on {format_compact(m.curve.pretrain_tokens or 0)} tokens"


def _pretraining(pretrain: int | None) -> str:
    return "" if pretrain is None else f"pre-trained on {format_compact(pretrain)}"


def _base(ax: Any, m: Measurement, colour: Any = "black", label: str | None = "baseline") -> None:
    if m.base.value is not None:
        ax.axhline(m.base.value, color=colour, linestyle="--", linewidth=1, label=label)
        if m.base.low is not None and m.base.high is not None:
            ax.axhspan(m.base.low, m.base.high, color=colour, alpha=0.08, linewidth=0)


def _line(ax: Any, found: Findings, m: Measurement, style: dict[str, Any], label: str) -> None:
    colour = style["color"]
    sizes = found.negatives
    known = dict(zip(m.curve.negatives, m.scores, strict=True))
    estimates = [known.get(n, Estimate()) for n in sizes]
    middle, low, high = (
        np.array([math.nan if v is None else v for v in (getattr(e, end) for e in estimates)])
        for end in ("value", "low", "high")
    )
    ax.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0)
    ax.plot(sizes, middle, markersize=3.5, label=label, **style)
    for n in found.holes(m.curve.key):
        ax.plot(n, 0.03, "x", color=colour, transform=ax.get_xaxis_transform(), clip_on=False)


def _finish(figure: Any, axes: Any, found: Findings, columns: int = 5) -> None:
    for ax in axes:
        size_axis(ax, found.negatives)
    figure.supxlabel(AXIS_LABELS["negative"], fontsize=9)
    figure.supylabel(AXIS_LABELS["score"], fontsize=9)
    legend_above(figure, axes, columns)
