"""What a reader must know before believing a number: told of this sweep, not of sweeps at large."""

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
"""Failed cells named on the page; the table has all."""

FEW_SEEDS = 5
FEW_PROMPTS = 20


def caveats(found: Findings) -> list[str]:
    """One sentence or two each, those about holes first."""
    return [
        *_holes(found),
        *_lessons(found),
        *_undefined(found),
        *_scorer(found),
        *_sampling(found),
        *_seeds(found),
        *_many(found),
        *_fits(found),
        *_provenance(found),
    ]


def _holes(found: Findings) -> list[str]:
    said = []
    if found.progress["pending"]:
        said.append(
            f"{format_count(found.progress['pending'])} of {format_count(found.progress['cells'])} cells "
            + ("have no score yet" if found.measurements else "are not made yet")
            + ": this is a picture of a sweep that has not ended."
        )
    failed = [row for row in found.failures if row["what"] == "cell"]
    if failed:
        named = [
            f"{row['model']}"
            + (f" pretrain {format_count(row['pretrain'])}" if row["pretrain"] is not None else "")
            + f" positive {format_count(row['positive'])} negative {format_count(row['negative'])} "
            f"seed {row['seed']} ({_short(row['error'])})"
            for row in failed[:MOST_NAMED]
        ]
        more = len(failed) - len(named)
        said.append(
            f"{format_count(len(failed))} cells failed, and are holes in every figure: {'; '.join(named)}"
            + (f"; and {format_count(more)} more in the table of failures." if more else ".")
        )
    empty = [m for m in found.measurements if not m.curve.prompts or not m.curve.negatives]
    if empty:
        said.append(
            f"{format_count(len(empty))} of {format_count(len(found.measurements))} curves have no score."
        )
    for m in found.measurements:
        about = [n for n in m.curve.notes if n.startswith(("no score", "seeds", "means", "only"))]
        if about and m not in empty:
            said.append(f"{_curve(found, m)}: {'; '.join(about)}.")
    return said


def _lessons(found: Findings) -> list[str]:
    said = []
    failed = [row for row in found.lessons if row["status"] == "failed"]
    left = sum(row["status"] == "pending" for row in found.lessons)
    if failed:
        why = dict.fromkeys(_short(row["error"]) for row in failed)
        said.append(
            f"{format_count(len(failed))} of {format_count(len(found.lessons))} lessons failed "
            f"({'; '.join(list(why)[:MOST_NAMED])}); what rests on them is left out."
        )
    if left:
        said.append(
            f"{format_count(left)} of {format_count(len(found.lessons))} lessons are not measured yet."
        )
    if disagree := paths.disagreeing(found):
        said.append(
            f"In {disagree} of the pairs of slices cross-entropy and KL divergence do not say the "
            "same of which path is the shorter: there cross-entropy tells of the teachers' own "
            "entropies, which differ between the paths."
        )
    seeds = [row["seeds"] for row in found.paths if row["seeds"]]
    if seeds and min(seeds) < FEW_SEEDS:
        said.append(
            f"Inverse and forward paths rest on {min(seeds)} seeds, held fixed: intervals and "
            "p-values say what other prompts would give with these states, not what other "
            "fine-tunings would."
        )
    return said


def _undefined(found: Findings) -> list[str]:
    said = []
    for words, told in (
        ("gap within noise", "The gap lies within noise: nothing derived from it is defined"),
        ("never crosses 0 ", "The base line is not reached: the reversion size is censored, and "
                             "neither rate nor the index is defined"),
        ("never crosses 0.5", "Half of the gap is never lost: the half-life is censored"),
        ("no elasticity index", "The score does not stay past the base line, so that there is no "
                                "index"),
        ("no late rate", "The base line is reached at the largest size only: no late rate"),
        ("aligned is below base", "Positive fine-tuning lowered the score"),
        ("lies below the smallest size", "A crossing lies below the smallest negative size, "
                                         "where the curve is taken as linear in log(1 + n)"),
        ("interval not bounded", "An end of an interval is not bounded by these prompts"),
    ):  # fmt: skip
        which = [m for m in found.measurements if any(words in note for note in m.notes)]
        if which:
            said.append(f"{told}: {'; '.join(_curve(found, m) for m in which)}.")
    return said


def _scorer(found: Findings) -> list[str]:
    said = []
    for row in found.requests:
        accuracy = row["scorer_accuracy"]
        if accuracy is None:
            said.append(f"How often the scorer {row['scorer']} is right is not known.")
        elif accuracy < 1:
            said.append(
                f"The scorer {row['scorer']} is right on {accuracy:.1%} of held-out texts, which "
                "may not be like the models' answers. If it errs alike both ways, differences of "
                f"shares are shown at {2 * accuracy - 1:.2f} of their size; retention, sizes and "
                "the index do not change."
            )
    return said


def _sampling(found: Findings) -> list[str]:
    said = []
    for row in found.requests:
        cut = row["cut_short"]
        if cut:
            said.append(
                f"{cut:.0%} of the answers to {row['task']} were cut at the token limit; the "
                "scorer judged what there was."
            )
    few = sorted({len(m.curve.prompts) for m in found.measurements if m.curve.prompts})
    if few and few[0] < FEW_PROMPTS:
        said.append(f"Some curves rest on {few[0]} prompts: such intervals are too narrow.")
    return said


def _seeds(found: Findings) -> list[str]:
    counts = {len(m.curve.seeds) for m in found.measurements if m.curve.seeds}
    if not counts or min(counts) >= FEW_SEEDS:
        return []
    spread = [m.curve.seed_spread for m in found.measurements]
    error = [m.curve.standard_error for m in found.measurements]
    known = np.concatenate(spread) if spread else np.array([])
    said = f"Seeds per curve: {min(counts)}, held fixed; the intervals are over prompts alone"
    if np.isfinite(known).any():
        said += (
            f". Between seeds a point's score has a standard deviation of "
            f"{format_number(float(np.nanmedian(known)))} in the median, against a standard error over "
            f"prompts of {format_number(float(np.nanmedian(np.concatenate(error))))}; other seeds would "
            "move the numbers by more than the intervals say"
        )
    return [f"{said}."]


def _many(found: Findings) -> list[str]:
    said: list[str] = []
    if not found.measurements:
        return said
    shown = sum(
        getattr(m, name).value is not None for m in found.measurements for name in QUANTITY_LABELS
    )
    if shown >= 20:  # of fewer, less than one
        said.append(
            f"The table of elasticity alone holds {format_count(shown)} intervals; of so many, some "
            f"{format_number(math.ceil(0.05 * shown))} miss their true value by chance. Intervals are not "
            "adjusted for their number."
        )
    for along, words in (("parameters", "model sizes"), ("pretrain_tokens", "pre-training sizes")):
        models = [len(s.models) for s in found.scaling if s.along == along and s.tau is not None]
        if models and min(models) < 5:
            least = 2 / math.factorial(min(models))
            said.append(
                f"Only {min(models)} {words} are compared: the smallest p-value there is "
                f"{format_number(least)}, so that a trend "
                + ("cannot be shown at 5%." if least > 0.05 else "shows only if it is perfect.")
            )
        if not models:
            varied = any(s.along == along for s in found.scaling)
            why = "too few curves are defined" if varied else "the sweep does not vary them alone"
            said.append(f"No trend over {words} can be tested: {why}.")
    return said


def _fits(found: Findings) -> list[str]:
    said = [f"No surface is fitted to {found.name(k)}: {why}." for k, why in found.unfitted.items()]
    for fit in found.fits:
        chosen = fit.held_out[fit.family.name]
        if chosen is not None and chosen > 2 * fit.noise:
            said.append(
                f"The fitted surface of {found.name(fit.surface.key)} misses sizes it has not seen "
                f"by {format_number(chosen)}, more than noise ({format_number(fit.noise)}) explains."
            )
    if found.fits:
        said.append(
            "Intervals of fitted parameters take the family as right; where two phases are hardly "
            "told apart they are rough."
        )
    return said


def _provenance(found: Findings) -> list[str]:
    said = []
    if len(found.made_with) > 1:
        said.append(
            f"The states were made in {len(found.made_with)} different environments (git revisions "
            f"{', '.join(revisions(found.made_with))}); see methods."
        )
    if found.spec is None:
        said.append("How answers were sampled is not on record, only its hash in the probe's id.")
    return said


def _curve(found: Findings, m: Measurement) -> str:
    return f"{found.name(m.curve.key)}, {positive_label(m.curve.key.positive)}"


def _short(error: str | None) -> str:
    line = (error or "failed").strip().splitlines()[0]
    return line if len(line) <= 120 else line[:117] + "..."
