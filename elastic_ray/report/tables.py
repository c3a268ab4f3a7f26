"""The report's tables, as rows of plain values; `table_files` writes them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from elastic_ray.analysis.captions import CAPTIONS
from elastic_ray.analysis.formatting import format_count
from elastic_ray.analysis.labels import AXIS_LABELS, QUANTITY_LABELS
from elastic_ray.elasticity import CORRECTED

from .findings import Findings
from .robustness_tables import robustness
from .scaling_figures import common_settings
from .table import Table


def tables(found: Findings) -> list[Table]:
    """Return every table that has at least one row."""
    every = (
        _indices(found),
        *robustness(found),
        _points(found),
        _held_out(found),
        _parameters(found),
        _scaling(found),
        _comparisons(found, "comparisons", found.comparisons,
                     "Larger model minus smaller model, paired by prompt."),
        _comparisons(found, "against", found.against,
                     "This sweep minus the other sweep, paired by prompt over the shared prompts."),
        _failures(found),
    )  # fmt: skip
    return [table for table in every if table.rows]


def _indices(found: Findings) -> Table:
    shown = [q for q in QUANTITY_LABELS.values() if q.name != "gap"]
    with_errors = any(m.corrected for m in found.measurements)
    rows = []
    for m in found.measurements:
        key, curve = m.curve.key, m.curve
        measured = (getattr(m, q.name) for q in shown)
        corrected = (m.corrected.get(name) for name in CORRECTED) if with_errors else ()
        rows.append(
            (found.name(key), curve.parameters, curve.pretrain_tokens, key.positive,
             len(curve.seeds), len(curve.prompts), *measured, *corrected, m.note or "")
        )  # fmt: skip
    heads: tuple[str, ...]
    heads = ("model", "parameters", "pre-training tokens", "positive", "seeds", "prompts")
    extra = [f"{QUANTITY_LABELS[name].short}, corrected" for name in CORRECTED if with_errors]
    heads = (*heads, *(q.short for q in shown), *extra, "note")
    return Table("elasticity", CAPTIONS["indices"], heads, tuple(rows))


def _points(found: Findings) -> Table:
    rows = []
    for m in found.measurements:
        spread = m.curve.seed_spread
        for i, n in enumerate(m.curve.negatives):
            between_seeds = None if math.isnan(spread[i]) else float(spread[i])
            rows.append((found.name(m.curve.key), m.curve.key.positive, n, m.scores[i],
                         m.retention[i], between_seeds))  # fmt: skip
    heads = ("model", "positive", "negative", "score", "retention", "spread of seeds")
    caption = "Every point of the curves. Spread is the standard deviation between seeds."
    return Table("points", caption, heads, tuple(rows))


def _held_out(found: Findings) -> Table:
    rows = []
    for fit in found.fits:
        for name, error in fit.held_out.items():
            chosen = "chosen" if name == fit.family.name else ""
            rows.append((found.name(fit.surface.key), name, error, fit.noise, chosen))
    heads = ("model", "family", "held-out error", "noise of a cell", "")
    caption = (
        "Root mean square error of each family at negative sizes left out of its fit. The family "
        "with the smallest error is chosen."
    )
    return Table("held_out", caption, heads, tuple(rows))


def _parameters(found: Findings) -> Table:
    rows: list[tuple[Any, ...]] = []
    for fit in found.fits:
        name = found.name(fit.surface.key)
        rows += [(name, fit.family.name, what, e) for what, e in fit.parameters.items()]
        for positive, derived in fit.derived.items():
            rows += [
                (
                    name,
                    fit.family.name,
                    f"{QUANTITY_LABELS[what].short} at {format_count(positive)}",
                    e,
                )
                for what, e in derived.items()
            ]
    caption = (
        "Parameters of the fitted surfaces, and quantities computed from them without "
        "interpolation. 95% intervals come from refitting the chosen family to each resample."
    )
    return Table("fits", caption, ("model", "family", "parameter", "estimate"), tuple(rows))


def _scaling(found: Findings) -> Table:
    rows = tuple(
        (AXIS_LABELS[s.along], common_settings(found, s), QUANTITY_LABELS[s.quantity].short,
         len(s.models), s.slope, s.same_runs, s.undefined,
         s.tau if s.p_value is not None else None, s.p_value, s.p_adjusted)
        for s in found.scaling
    )  # fmt: skip
    heads = ("along", "alike", "quantity", "models", "per tenfold size", "over prompts alone",
             "undefined curves", "tau", "p", "p, Holm")  # fmt: skip
    caption = (
        "Change per tenfold size with its 95% interval over prompts and seeds, and over prompts "
        "alone, with these training runs held fixed. Trends: Kendall's tau within positive sizes "
        "with its two-sided permutation p-value, unadjusted and adjusted for all rows; not given "
        "for fewer than 5 sizes, which cannot reach p < 0.05."
    )
    return Table("scaling", caption, heads, rows)


def _comparisons(found: Findings, name: str, differences: Iterable[Any], caption: str) -> Table:
    shown = [q for q in QUANTITY_LABELS.values() if q.name != "gap"]
    rows = []
    for d in differences:
        one = found.name(d.one) if d.one.sweep == d.other.sweep else d.one.sweep
        other = found.name(d.other) if d.one.sweep == d.other.sweep else d.other.sweep
        if d.one.sweep != d.other.sweep:
            one = f"{one}: {found.name(d.one)}"
        rows.append(
            (f"{one} - {other}", d.one.positive, d.paired, *(d.quantities[q.name] for q in shown))
        )
        rows[-1] += (d.same_runs["reversion_size"], "; ".join(d.notes))
    heads = ("difference", "positive", "shared prompts", *(q.short for q in shown),
             "reversion over prompts alone", "note")  # fmt: skip
    return Table(name, f"{caption} {CAPTIONS['indices'].split('. ', 1)[1]}", heads, tuple(rows))


def _failures(found: Findings) -> Table:
    rows = tuple(
        (row["what"], row["model"] or "", row["pretrain"], row["positive"], row["negative"],
         row["seed"], row["state_id"], row["error"])
        for row in found.failures
    )  # fmt: skip
    heads = ("what", "model", "pre-training", "positive", "negative", "seed", "state", "error")
    return Table("failures", "States and cells that failed, with their errors.", heads, rows)
