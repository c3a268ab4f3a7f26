"""The caveats section: limitations of this sweep's numbers."""

from __future__ import annotations

import math

import numpy as np

from elastic_ray.analysis.formatting import format_count, format_number
from elastic_ray.analysis.labels import QUANTITY_LABELS, positive_label
from elastic_ray.elasticity import Measurement

from . import paths
from .findings import Findings
from .methods import revisions

MOST_NAMED = 12
"""Maximum number of failed cells named on the page; the table of failures lists all."""

FEW_SEEDS = 5
"""Below this number of seeds, a caveat says how little the intervals rest on."""

FEW_PROMPTS = 20
"""Below this number of prompts, percentile intervals are too narrow."""


def caveats(found: Findings) -> list[str]:
    """Return the caveats, one or two sentences each; missing results come first."""
    return [
        *_holes(found),
        *_lessons(found),
        *_undefined(found),
        *_scorer(found),
        *_sampling(found),
        *_seeds(found),
        *_baselines(found),
        *_multiple_comparisons(found),
        *_fits(found),
        *_provenance(found),
    ]


def _holes(found: Findings) -> list[str]:
    sentences = []
    pending, cells = found.progress["pending"], found.progress["cells"]
    if pending:
        missing = "have no score yet" if found.measurements else "have not been trained yet"
        sentences.append(
            f"{format_count(pending)} of {format_count(cells)} cells {missing}: the sweep has not "
            "ended."
        )
    failed = [row for row in found.failures if row["what"] == "cell"]
    if failed:
        named = [
            f"{row['model']}"
            + (f" pretrain {format_count(row['pretrain'])}" if row["pretrain"] is not None else "")
            + f" positive {format_count(row['positive'])} negative "
            f"{format_count(row['negative'])} seed {row['seed']} ({_first_line(row['error'])})"
            for row in failed[:MOST_NAMED]
        ]
        more = len(failed) - len(named)
        sentences.append(
            f"{format_count(len(failed))} cells failed and are missing from every figure: "
            f"{'; '.join(named)}"
            + (f"; and {format_count(more)} more in the table of failures." if more else ".")
        )
    measured = found.measurements
    empty = [m for m in measured if not m.curve.prompts or not m.curve.negatives]
    if empty:
        sentences.append(
            f"{format_count(len(empty))} of {format_count(len(measured))} curves have no score."
        )
    for m in measured:
        about = [n for n in m.curve.notes if n.startswith(("no score", "seeds", "means", "only"))]
        if about and m not in empty:
            sentences.append(f"{_curve(found, m)}: {'; '.join(about)}.")
    return sentences


def _lessons(found: Findings) -> list[str]:
    sentences = []
    total = format_count(len(found.lessons))
    failed = [row for row in found.lessons if row["status"] == "failed"]
    pending = sum(row["status"] == "pending" for row in found.lessons)
    if failed:
        errors = list(dict.fromkeys(_first_line(row["error"]) for row in failed))
        sentences.append(
            f"{format_count(len(failed))} of {total} lessons failed "
            f"({'; '.join(errors[:MOST_NAMED])}); comparisons that need them are left out."
        )
    if pending:
        sentences.append(f"{format_count(pending)} of {total} lessons are not measured yet.")
    if disagree := paths.disagreeing(found):
        sentences.append(
            f"In {disagree} of the pairs of slices, cross-entropy and KL divergence disagree on "
            "which path is shorter. There, cross-entropy reflects the teachers' own entropies, "
            "which differ between the paths."
        )
    seeds = [row["seeds"] for row in found.paths if row["seeds"]]
    if seeds and min(seeds) < FEW_SEEDS:
        sentences.append(
            f"Inverse and forward paths rest on {min(seeds)} seeds, held fixed: intervals and "
            "p-values describe what other prompts would give with these states, not what other "
            "fine-tuning runs would."
        )
    return sentences


_NOTES = (
    ("gap within noise", "The gap is within noise, so no quantity derived from it is defined"),
    (
        "never crosses 0 ",
        "The score does not reach the baseline: the reversion size is censored, and neither rate "
        "nor the index is defined",
    ),
    (
        "never crosses 0.5",
        "The score does not lose half of the gap: the half-life is censored",
    ),
    (
        "no elasticity index",
        "The early or late rate is not above 0, so there is no index",
    ),
    (
        "beyond the largest size",
        "The window of the late rate ends beyond the largest negative size, so there is neither a "
        "late rate nor an index; larger sizes would give them",
    ),
    (
        "below the smallest size",
        "The window of the late rate ends below the smallest negative size, so there is neither a "
        "late rate nor an index; smaller sizes would give them",
    ),
    (
        "where the window ends: the late",
        "The score is at a limit of the scorer where the window ends, so the late rate is at least "
        "and the index at most the value given",
    ),
    (
        "the aligned score is at the scorer's limit",
        "The aligned score is at a limit of the scorer, so the gap and the early rate are at least "
        "the values given",
    ),
    ("aligned is below base", "Positive fine-tuning lowered the score"),
    (
        "lies below the smallest size",
        "A crossing lies below the smallest negative size, where the curve is interpolated "
        "linearly in log(1 + n)",
    ),
    (
        "interval not bounded",
        "At least one interval has an unbounded end, given these prompts and seeds",
    ),
)
"""(fragment of a note that `elasticity` writes, caveat for curves with that note)"""


def _undefined(found: Findings) -> list[str]:
    sentences = []
    for fragment, caveat in _NOTES:
        which = [m for m in found.measurements if any(fragment in note for note in m.notes)]
        if which:
            sentences.append(f"{caveat}: {'; '.join(_curve(found, m) for m in which)}.")
    return sentences


def _scorer(found: Findings) -> list[str]:
    sentences = []
    for row in found.requests:
        accuracy = row["scorer_accuracy"]
        if accuracy is None:
            sentences.append(f"The accuracy of the scorer {row['scorer']} is not known.")
        elif accuracy < 1:
            sentences.append(
                f"The scorer {row['scorer']} is correct on {accuracy:.1%} of held-out texts, which "
                "may differ from the models' answers. If it errs equally often in both directions, "
                f"differences between shares are shrunk to {2 * accuracy - 1:.2f} of their true "
                "size; retention, sizes and the index are unaffected."
            )
    return sentences


def _sampling(found: Findings) -> list[str]:
    sentences = []
    for row in found.requests:
        cut = row["cut_short"]
        if cut:
            sentences.append(
                f"{cut:.0%} of the answers to {row['task']} were truncated at the token limit; "
                "they were scored in their truncated form."
            )
    few = sorted({len(m.curve.prompts) for m in found.measurements if m.curve.prompts})
    if few and few[0] < FEW_PROMPTS:
        sentences.append(
            f"Some curves rest on only {few[0]} prompts; with so few, intervals are too narrow."
        )
    return sentences


def _seeds(found: Findings) -> list[str]:
    counts = {len(m.curve.seeds) for m in found.measurements if m.curve.seeds}
    if not counts or min(counts) >= FEW_SEEDS:
        return []
    few = min(counts)
    spread = [m.curve.seed_spread for m in found.measurements]
    error = [m.curve.standard_error for m in found.measurements]
    known = np.concatenate(spread) if spread else np.array([])
    sentence = (
        "One seed per curve: the intervals are over prompts alone, and cannot tell what other "
        "training runs would give"
        if few == 1
        else f"Seeds per curve: {few}. The intervals cover other seeds, from the spread of so few; "
        + (
            "with two they are some six times as wide as with many, and tell large effects only"
            if few == 2
            else "they are wider than with many"
        )
    )
    if np.isfinite(known).any():
        between_seeds = format_number(float(np.nanmedian(known)))
        over_prompts = format_number(float(np.nanmedian(np.concatenate(error))))
        sentence += (
            ". The standard deviation of a point's score between seeds has a median of "
            f"{between_seeds}, compared with a median standard error over prompts of "
            f"{over_prompts}"
        )
    return [f"{sentence}."]


def _baselines(found: Findings) -> list[str]:
    """Return a caveat on models whose baselines differ: their ways back are not equally long."""
    pairs = [d for d in found.comparisons if any("baselines differ" in note for note in d.notes)]
    if not pairs:
        return []
    names = dict.fromkeys(f"{found.name(d.one)} and {found.name(d.other)}" for d in pairs)
    return [
        f"The baselines differ between {'; '.join(names)}: the way back is longer for the model "
        "whose baseline is lower. The table of sensitivity tries each baseline on the other curves."
    ]


def _multiple_comparisons(found: Findings) -> list[str]:
    sentences: list[str] = []
    if not found.measurements:
        return sentences
    shown = sum(
        getattr(m, name).value is not None for m in found.measurements for name in QUANTITY_LABELS
    )
    if shown >= 20:  # with fewer, less than one is expected to miss
        missed = format_number(math.ceil(0.05 * shown))
        sentences.append(
            f"The table of elasticity alone holds {format_count(shown)} intervals; about {missed} "
            "of them are expected to miss their true value by chance. Intervals are not adjusted "
            "for multiple comparisons."
        )
    for along, sizes in (("parameters", "model sizes"), ("pretrain_tokens", "pre-training sizes")):
        models = [len(s.models) for s in found.scaling if s.along == along and s.tau is not None]
        if models and min(models) < 5:
            least = 2 / math.factorial(min(models))
            sentences.append(
                f"Only {min(models)} {sizes} are compared: the smallest possible p is "
                f"{format_number(min(least, 1.0))}, so a trend cannot be shown at the 5% level, "
                "and none is tested."
            )
        if not models:
            varied = any(s.along == along for s in found.scaling)
            why = (
                "it is undefined for too many curves"
                if varied
                else "the sweep does not vary them with all else equal"
            )
            sentences.append(f"No trend over {sizes} can be tested: {why}.")
    return sentences


def _fits(found: Findings) -> list[str]:
    sentences = [
        f"No surface is fitted to {found.name(key)}: {why}." for key, why in found.unfitted.items()
    ]
    for fit in found.fits:
        chosen = fit.held_out[fit.family.name]
        if chosen is not None and chosen > 2 * fit.noise:
            sentences.append(
                f"The fitted surface of {found.name(fit.surface.key)} has an error of "
                f"{format_number(chosen)} at sizes left out of the fit, more than noise "
                f"({format_number(fit.noise)}) explains."
            )
    if found.fits:
        sentences.append(
            "Intervals of fitted parameters assume that the family is correct; they are rough "
            "where the two phases are hard to separate."
        )
    return sentences


def _provenance(found: Findings) -> list[str]:
    sentences = []
    if len(found.made_with) > 1:
        sentences.append(
            f"The states were trained in {len(found.made_with)} different environments (git "
            f"revisions {', '.join(revisions(found.made_with))}); see Methods."
        )
    if found.spec is None:
        sentences.append(
            "The sampling settings are not recorded, only their hash in the probe's id."
        )
    return sentences


def _curve(found: Findings, m: Measurement) -> str:
    return f"{found.name(m.curve.key)}, {positive_label(m.curve.key.positive)}"


def _first_line(error: str | None) -> str:
    line = (error or "failed").strip().splitlines()[0]
    return line if len(line) <= 120 else line[:117] + "..."
