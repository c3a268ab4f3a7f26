"""How results are worded wherever they are shown: numbers, intervals, axes, captions.

The sweep's table, the report and the app use these, so that one number reads the same everywhere.
Nothing here computes; None is what `elasticity` gives for undefined, or for an end not bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .formatting import UNDEFINED, compact, interval_of, number, p_value


@dataclass(frozen=True)
class Quantity:
    """How a column of the `indices` table is called: short in tables, long on axes."""

    name: str
    short: str
    axis: str
    meaning: str


QUANTITIES: Mapping[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity("base", "base", "base line score", "score at (0, 0), before any fine-tuning"),
        Quantity("aligned", "aligned", "aligned score", "score after positive fine-tuning alone"),
        Quantity("gap", "gap", "aligned - base", "what positive fine-tuning gained"),
        Quantity(
            "half_life",
            "half-life",
            "half-life (negative examples)",
            "negative examples after which half of the gap is gone",
        ),
        Quantity(
            "reversion_size",
            "reversion",
            "reversion size (negative examples)",
            "negative examples after which the score is back at the base line",
        ),
        Quantity(
            "early_rate",
            "early rate",
            "early rate (score per 100 examples)",
            "fall per 100 negative examples before the base line is reached",
        ),
        Quantity(
            "late_rate",
            "late rate",
            "late rate (score per 100 examples)",
            "fall per 100 negative examples past the base line",
        ),
        Quantity(
            "elasticity_index",
            "index",
            "elasticity index, log(early / late)",
            "log of early over late rate; above 0 the fall slows past the base line",
        ),
    )
}
"""In the order in which tables show them."""

AXES: Mapping[str, str] = {
    "score": "score (larger is more aligned)",
    "retention": "retention (1 aligned, 0 base line)",
    "negative": "negative examples",
    "positive": "positive examples",
    "parameters": "parameters",
    "pretrain_tokens": "pre-training tokens",
    "pretrain": "pre-training examples",
}

CAPTIONS: Mapping[str, str] = {
    "curves": "Score against negative examples, one line per number of positive examples (the "
    "paper's Figure 3). Dashed: the base line, the model before fine-tuning. Bands and bars: 95% "
    "intervals over prompts, seeds held fixed.",
    "by_parameters": "The same curves by model size, pre-training alike (the paper's Figure 4).",
    "by_pretrain": "The same curves by pre-training size, model alike (the paper's Figure 5).",
    "surface": "Score over positive and negative examples. Empty cells have no score: failed, or "
    "not yet run.",
    "surface_3d": "Fitted surfaces, one scale for all; points are measured scores, the net is the "
    "base line. Both horizontal axes are logarithmic; 0 stands before the smallest size.",
    "retention": "Retention, the share of the gap that is left: 1 after positive fine-tuning, 0 "
    "back at the base line, below 0 past it. Empty where undefined: no score, or a gap within "
    "noise.",
    "fit": "Fitted surface (lines) and measured scores (points); below, what the fit leaves over, "
    "with 95% intervals of the measured scores.",
    "scaling": "Elasticity index, early and late rate against size, with 95% intervals; hollow "
    "points have an end that is not bounded. The paper claims that the early rate grows and the "
    "late rate falls with either size.",
    "code_lengths": "Change of the code lengths of held-out texts as negative examples are "
    "learnt, against the state without any, in bits per byte: above 0, texts are coded worse. "
    "Bands: 95% intervals over texts and seeds.",
    "faster": "How many times as much a byte of alignment text loses as one of pre-training text "
    "changes, at each curve's smallest negative size at which it loses beyond noise; with 95% "
    "intervals; one without an end runs off the top. Dashed: k, the paper's claim. Curves without "
    "such a size are left out.",
    "compression": "Code lengths of held-out texts in bits per byte (D1 pre-training, D2 positive, "
    "D3 negative), their change against l = 0, and how many times as much D2 loses as D1 changes, "
    "with 95% intervals over texts and seeds. k = |D1| / |D2|, l = |D3| / |D2|, in examples. "
    "Theory: the same if D3 is like D1. Slopes: D2's normalised slope over D1's, and the theory's "
    "range if D3 is independent.",
    "paths": "For each pair of slices k < l of one fine-tuning, how far from its teacher a student "
    "ends: on the inverse path slice l learns the answers of slice k, on the forward path k those "
    "of l. Bars: 95% intervals over prompts, seeds held fixed. Hollow: what the paper printed.",
    "paths_kl": "The same by KL divergence, which leaves out the teacher's own entropy; the paper "
    "prints cross-entropies alone.",
    "inverse_forward": "Inverse and forward paths between slices of one fine-tuning (the paper's "
    "Table 1), with 95% intervals; forward - inverse above 0 is the paper's claim. Cross-entropy "
    "holds the teacher's own entropy, H(p, q) = H(p, p) + KL(p || q), and the two paths have "
    "different teachers: it can differ where nothing is to be learnt. KL leaves that out. "
    "Intervals and p are over prompts, seeds held fixed; p is two-sided, from flipping the signs "
    "of the prompts' differences, and not adjusted for how many there are.",
    "indices": "What is measured of each curve, with 95% intervals. A dash is undefined, an "
    "ellipsis an end that is not bounded; sizes in negative examples, rates in score per 100 "
    "negative examples.",
}
"""Captions of figures and tables, by what they show."""


COMPRESSION: Mapping[str, str] = {
    "pretrain": "pre-training texts (D1)",
    "positive": "positive texts (D2)",
    "negative": "negative texts (D3)",
}
"""The distributions whose held-out texts are coded, in the order of the theory."""

COMPRESSION_COLUMNS: Mapping[str, str] = {
    "label": "model",
    "positive": "positive",
    "negative": "negative",
    "k": "k",
    "l": "l",
    "pretrain_rate": "D1",
    "positive_rate": "D2",
    "negative_rate": "D3",
    "pretrain_change": "change of D1",
    "positive_change": "change of D2",
    "times": "times faster",
    "said": "which is",
    "theory": "theory",
    "slopes": "slopes",
    "theory_slopes": "theory of slopes",
}
"""Columns of the rows of `theory.answer`, as tables show them."""


def compression_row(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of `theory.answer` as people read it."""
    shown = {}
    for name in COMPRESSION_COLUMNS:
        if name in row and f"{name}_low" in row:
            shown[name] = interval_of(row, name)
        elif name in row:
            shown[name] = row[name] if isinstance(row[name], str) else number(row[name])
        else:
            shown[name] = f"{number(row[f'{name}_low'])} to {number(row[f'{name}_high'])}"
    return shown


METRICS: Mapping[str, str] = {
    "cross_entropy": "cross-entropy",
    "kl": "KL divergence",
    "js": "Jensen-Shannon divergence",
    "tv": "total variation",
}
"""Distances between two states' distributions of the next token, the paper's first."""

PATH_COLUMNS: Mapping[str, str] = {
    "label": "model",
    "slices": "slices",
    "metric": "distance",
    "inverse": "inverse",
    "forward": "forward",
    "difference": "forward - inverse",
    "p_value": "p",
    "nearer": "seeds inverse < forward",
    "printed": "printed in the paper",
    "note": "note",
}
"""Columns of the rows of the view `inverse_forward`, as tables show them."""


PATHS_QUESTION = "Is the way back shorter: is inverse fine-tuning nearer its aim than forward?"


def paths_answer(metric: str, counts: tuple[int, int, int, int]) -> str:
    """What the intervals of one metric say; `counts` as `elasticity.paths.told_apart` has them."""
    nearer, farther, open_, undefined = counts
    known = nearer + farther + open_
    name = METRICS.get(metric, metric)
    if not known:
        return f"By {name} nothing is told: no pair has an interval."
    short = {
        (True, False, False): "yes, in every pair",
        (False, True, False): "no, the other way round in every pair",
        (False, False, True): "not told apart in any pair",
    }.get((nearer > 0, farther > 0, open_ > 0), "not in every pair")
    return (
        f"By {name}: {short}. Of {known} pairs, the inverse path ends nearer to its teacher in "
        f"{nearer} and the forward path in {farther}; in {open_} the 95% interval of the "
        "difference holds 0." + (f" {undefined} more have no interval." if undefined else "")
    )


def path_row(row: Mapping[str, Any], label: str) -> dict[str, str]:
    """A row of the view `inverse_forward`, or of the `paths` table, as people read it."""
    inverse, forward = row.get("printed_inverse"), row.get("printed_forward")
    return {
        "label": label,
        "slices": f"{row['k']}, {row['l']}",
        "metric": METRICS.get(row["metric"], row["metric"]),
        **{name: interval_of(row, name) for name in ("inverse", "forward", "difference")},
        "p_value": p_value(row["p_value"]).removeprefix("p = ").removeprefix("p "),
        "nearer": f"{row['seeds_inverse_nearer']} of {row['seeds']}" if row["seeds"] else UNDEFINED,
        "printed": "" if inverse is None else f"{inverse:.4f} vs. {forward:.4f}",
        "note": row["note"] or "",
    }


def model_name(model: str, pretrain: int | None, task: str | None = None) -> str:
    """`reviews-150k, pre-trained on 4k`; the task in front where there are several."""
    name = model if pretrain is None else f"{model}, pre-trained on {compact(pretrain)}"
    return f"{task}: {name}" if task else name


def positive_label(positive: int) -> str:
    """A curve's name in a legend."""
    return f"{positive:,} positive"
