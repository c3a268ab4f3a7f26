"""Tables of what the numbers rest on: single seeds, choices, numbers of prompts and seeds."""

from __future__ import annotations

import math
from typing import Any

from elastic_ray.analysis.labels import QUANTITY_LABELS
from elastic_ray.elasticity import sensitivity, variances

from .findings import Findings
from .table import Table

MOST_BASES = 3
"""Maximum number of other models whose baseline is tried on a curve."""


def robustness(found: Findings) -> tuple[Table, ...]:
    """Return the tables of seeds, of sensitivity and of precision."""
    return _by_seed(found), _sensitivity(found), _precision(found), _base_distances(found)


def _by_seed(found: Findings) -> Table:
    """Return each seed's own values, measured like a curve of one seed."""
    shown = [q for q in QUANTITY_LABELS.values() if q.name != "base"]
    rows = [
        (found.name(m.curve.key), m.curve.key.positive, seed,
         *(m.by_seed[q.name][at] for q in shown))
        for m in found.measurements
        if m.by_seed and len(m.curve.seeds) > 1
        for at, seed in enumerate(m.curve.seeds)
    ]  # fmt: skip
    caption = "Each seed's own values, measured like a curve of one seed."
    heads = ("model", "positive", "seed", *(q.short for q in shown))
    return Table("seeds", caption, heads, tuple(rows))


def _sensitivity(found: Findings) -> Table:
    """Return what each curve would measure under other choices."""
    shown = [q for q in QUANTITY_LABELS.values() if q.name not in ("base", "aligned")]
    others: dict[Any, Any] = {}
    for m in found.measurements:
        others.setdefault((m.curve.key.task, m.curve.key.model, m.curve.key.pretrain), m.curve)
    rows = []
    for m in found.measurements:
        key = m.curve.key
        rest = [c for at, c in others.items() if at != (key.task, key.model, key.pretrain)]
        rows += [
            (found.name(key), key.positive, each.choice, *(each.quantities[q.name] for q in shown))
            for each in sensitivity(m.curve, tuple(rest[:MOST_BASES]))
        ]
    caption = (
        "How the quantities depend on choices: a shorter axis, the window of the late rate, "
        "another model's baseline, the scorer's errors. Values of the same scores; a dash is "
        "undefined."
    )
    heads = ("model", "positive", "choice", *(q.short for q in shown))
    return Table("sensitivity", caption, heads, tuple(rows))


def _precision(found: Findings) -> Table:
    """Return what interval of a mean score to expect, and what a narrower one takes."""
    rows = []
    for m in found.measurements:
        parts, prompts, seeds = variances(m.curve), len(m.curve.prompts), len(m.curve.seeds)
        if parts is None:
            continue
        half = parts.half_width(prompts, seeds)
        more_seeds, more_prompts = (
            parts.seeds_for(half / 2, prompts), parts.prompts_for(half / 2, seeds)
        )  # fmt: skip
        rows.append((found.name(m.curve.key), m.curve.key.positive, prompts, seeds,
                     math.sqrt(parts.seed), half, more_seeds or "no number",
                     more_prompts or "no number"))  # fmt: skip
    heads = (
        "model", "positive", "prompts", "seeds", "deviation between seeds",
        "half-width of a mean score", "seeds for half of it", "prompts for half of it",
    )  # fmt: skip
    caption = (
        "Width of the 95% interval of a mean score to expect from so many prompts and seeds, and "
        "how many seeds (of as many prompts) or prompts (of as many seeds) half of it takes."
    )
    return Table("precision", caption, heads, tuple(rows))


def _base_distances(found: Findings) -> Table:
    """Return the KL divergence from the baseline along the curves."""
    rows = [
        (
            found.name(d.curve.key),
            d.curve.key.positive,
            d.start,
            d.epsilon,
            d.until,
            "; ".join(
                f"{n:,}: {kl:.3g}" for n, kl in zip(d.curve.negatives, d.curve.mean, strict=True)
            ),
        )
        for d in found.base_distances
    ]
    heads = ("model", "positive", "KL of the aligned model", "epsilon", "negative until epsilon")
    caption = (
        "KL divergence from the baseline, on the baseline's own answers, in nats per token, and "
        "the negative examples until it is at most epsilon, with 95% intervals over prompts and "
        "seeds."
    )
    return Table("base_distance", caption, (*heads, "KL by negative size"), tuple(rows))
