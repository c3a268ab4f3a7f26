"""Names of quantities, axes, distances and models, as tables, figures and messages show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .formatting import format_compact


@dataclass(frozen=True)
class QuantityLabel:
    """The texts for one measured quantity of a curve.

    `name` is its column in the table `indices`, `short` heads a table's column, `axis` names a
    figure's axis with the unit, `meaning` is a help text.
    """

    name: str
    short: str
    axis: str
    meaning: str


QUANTITY_LABELS: Mapping[str, QuantityLabel] = {
    label.name: label
    for label in (
        QuantityLabel("base", "base", "baseline score", "score at (0, 0), before any fine-tuning"),
        QuantityLabel(
            "aligned", "aligned", "aligned score", "score after positive fine-tuning only"
        ),
        QuantityLabel("gap", "gap", "aligned - base", "score gained by positive fine-tuning"),
        QuantityLabel(
            "reversion_size",
            "reversion",
            "reversion size (negative examples)",
            "negative examples after which the score is back at the baseline",
        ),
        QuantityLabel(
            "reversion_share",
            "of positive",
            "reversion size / positive examples",
            "reversion size as a share of the positive examples",
        ),
        QuantityLabel(
            "half_life",
            "half-life",
            "half-life (negative examples)",
            "negative examples after which half of the gap is lost",
        ),
        QuantityLabel(
            "half_life_share",
            "half-life of positive",
            "half-life / positive examples",
            "half-life as a share of the positive examples",
        ),
        QuantityLabel(
            "early_rate",
            "early rate",
            "early rate (score per 100 examples)",
            "decrease per 100 negative examples before the score reaches the baseline",
        ),
        QuantityLabel(
            "late_rate",
            "late rate",
            "late rate (score per 100 examples)",
            "decrease per 100 negative examples past the baseline, up to the end of the window "
            "(4 reversion sizes, unless the sweep file says otherwise)",
        ),
        QuantityLabel(
            "elasticity_index",
            "index",
            "elasticity index, log(early / late)",
            "log of early rate over late rate; positive if the decrease slows past the baseline",
        ),
    )
}
"""Labels by quantity, in the order of tables."""

AXIS_LABELS: Mapping[str, str] = {
    "score": "score (larger is more aligned)",
    "retention": "retention (1 aligned, 0 baseline)",
    "negative": "negative examples",
    "positive": "positive examples",
    "parameters": "parameters",
    "pretrain_tokens": "pre-training tokens",
    "pretrain": "pre-training examples",
}
"""Axis titles by column."""

DISTRIBUTION_LABELS: Mapping[str, str] = {
    "pretrain": "pre-training texts (D1)",
    "positive": "positive texts (D2)",
    "negative": "negative texts (D3)",
}
"""Names of the distributions whose held-out texts are coded, in the order of the theory."""

METRIC_LABELS: Mapping[str, str] = {
    "cross_entropy": "cross-entropy",
    "kl": "KL divergence",
    "js": "Jensen-Shannon divergence",
    "tv": "total variation",
}
"""Names of the distances between two next-token distributions; the paper's comes first."""


def model_label(model: str, pretrain: int | None, task: str | None = None) -> str:
    """Return a model's name, such as `reviews-150k, pre-trained on 4k`.

    `task` goes in front; give it only where several tasks are shown together.
    """
    name = model if pretrain is None else f"{model}, pre-trained on {format_compact(pretrain)}"
    return f"{task}: {name}" if task else name


def positive_label(positive: int) -> str:
    """Return a curve's name in a legend, such as `1,000 positive`."""
    return f"{positive:,} positive"
