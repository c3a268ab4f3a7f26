"""The methods section: what was run, in sentences, from the recorded results.

What the results do not record, the sentences say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from elastic_ray.analysis.formatting import format_compact, format_count, format_number
from elastic_ray.analysis.measurements import Row
from elastic_ray.spec import STAGES

from .findings import Findings
from .formulas import DATA, FITTED, OPTIMISER

NOT_RECORDED = "not recorded (the sweep ran before sweeps recorded their sweep file)"

STATISTICS = (
    "s(p, n) is the mean score over prompts and seeds after p positive, then n negative examples; "
    "a larger score is more aligned. Retention is (s(p, n) - s(0, 0)) / (s(p, 0) - s(0, 0)). The "
    "reversion size n* and the half-life are the n at which retention first reaches 0 and 0.5, "
    "interpolated on log n. The early rate is the gap s(p, 0) - s(0, 0) divided by n*; the late "
    "rate is the decrease from n* to the end of its window, divided by the examples in between. "
    "Both are per 100 examples. The elasticity index is log(early / late). Where the score lies at "
    "a limit of the scorer at the end of the window, the late rate is at least and the index at "
    "most what was measured, and is given as such a bound. A window that does not end on the axis "
    "has neither.",
    "Intervals are 95% percentile intervals of drawn means. A draw adds to the measured means what "
    "other prompts and other training seeds would change: a normal deviation with the covariance "
    "of the prompts' means, and the seeds' deviations with Student's t distribution (seeds are "
    "clusters). With one seed, intervals cover prompts alone. Differences and slopes draw the "
    "prompts jointly for all curves (paired), and the seeds of each model by themselves. A fitted "
    "surface belongs to that of seven families with the smallest error at sizes left out of the "
    "fit; the intervals of its parameters are percentiles of the fits to each draw, corrected for "
    "bias for shares and powers. Trends are Kendall's tau within positive sizes, with a two-sided "
    "p-value from permuting whole models, unadjusted and adjusted (Holm); with fewer than five "
    "sizes no p-value could fall below 0.05, and none is given.",
)

PATHS = (
    "For two slices k < l of one fine-tuning run, the inverse path trains the state of slice l on "
    "the answers of the state of slice k; the forward path trains the state of slice k on those of "
    "slice l. The distance of a student from its teacher is measured on the teacher's own answers "
    "to other held-out prompts, over the whole vocabulary: the mean over an answer's tokens, then "
    "over prompts and seeds. Intervals are 95% percentile intervals of a bootstrap over prompts, "
    "resampled jointly for both paths and all seeds. p-values are two-sided, from a permutation "
    "test that flips the sign of each prompt's difference, averaged over seeds (exact up to 13 "
    "prompts, else 9999 random flips). Seeds are held fixed.",
)


def methods(found: Findings) -> list[tuple[str, list[str]]]:
    """Return (subject, sentences) in reading order."""
    paths = PATHS if found.lessons else ()
    return [
        ("Sweep", _sweep(found)),
        ("Models", _models(found)),
        ("Data", _data(found)),
        ("Sizes and seeds", _sizes(found)),
        ("Training", _training(found)),
        *([("Lessons", _lessons(found))] if found.lessons else []),
        ("Evaluation", _evaluation(found)),
        ("Scorer", _scorer(found)),
        ("Software and hardware", _environment(found)),
        (
            "Statistics",
            [
                *_window(found),
                *(STATISTICS if found.measurements else ()),
                *((FITTED,) if found.fits else ()),
                *paths,
            ],
        ),
    ]


def _window(found: Findings) -> list[str]:
    windows = sorted({m.curve.window for m in found.measurements})
    if not windows:
        return []
    return [f"The late rate's window ends at {_text(windows)} reversion sizes."]


def _sweep(found: Findings) -> list[str]:
    progress = found.progress
    cells, done, failed, pending, states = (
        format_count(progress[name]) for name in ("cells", "done", "failed", "pending", "states")
    )
    sentences = [
        f"Sweep {found.sweep}: {cells} cells, {done} scored, {failed} "
        f"failed, {pending} pending; {states} states."
    ]
    if progress["started_at"] is not None:
        sentences.append(
            f"The first state started training at {_minute(progress['started_at'])}, the last one "
            f"finished at {_minute(progress['last_state_at'])} (UTC)."
        )
    return sentences


def _models(found: Findings) -> list[str]:
    sentences = []
    for row in found.starts:
        start = dict(row["start"])
        kind = start.pop("kind", "?")
        origin = {
            "init": f"trained from scratch ({_settings(start.get('init'))})",
            "hub": f"{start.get('repo')} at revision {start.get('revision')}",
            "folder": f"a checkpoint folder with content {start.get('content')}",
        }.get(kind, kind)
        cells = [cell for cell in found.cells if cell["model"] == row["model"]]
        sizes = {cell["parameters"] for cell in cells} - {None}
        tokens = sorted({cell["pretrain_tokens"] for cell in cells} - {None})
        parameters = f", {format_compact(max(sizes))} parameters" if sizes else ""
        pretrained = ""
        if any(tokens):
            pretrained = f", pre-trained on {_list(format_compact(t) for t in tokens)} tokens"
        sentences.append(f"{row['model']}: {origin}{parameters}{pretrained}.")
    return sentences or ["The models' initial weights are not recorded."]


def _data(found: Findings) -> list[str]:
    sentences = []
    requested = {task["name"]: task for task in (found.spec or {}).get("task", ())}
    for task in found.tasks:
        settings = requested.get(task, {}).get("data")
        digests = sorted({r["data"] for r in found.recipes if r["task"] == task})
        sentences.append(
            f"Task {task}"
            + (f": {DATA[task]}" if task in DATA else "")
            + ";"[: bool(settings)]
            + (f" with {_settings(settings)}" if settings else "")
            + (f"; digest of its data {_list(digests)}" if digests else "")
            + "."
        )
    return sentences


def _sizes(found: Findings) -> list[str]:
    def values(name: str, cells: Iterable[Row]) -> str:
        return _list(format_count(v) for v in sorted({cell[name] for cell in cells} - {None}))

    tuned = [cell for cell in found.cells if cell["positive"]]
    sentences = [
        f"Positive examples: {values('positive', tuned)}; negative: {values('negative', tuned)}; "
        f"seeds: {values('seed', found.cells)} (selection and order of the fine-tuning examples)."
    ]
    if pretrain := values("pretrain", found.cells):
        sentences.insert(0, f"Pre-training examples: {pretrain}.")
    return sentences


def _training(found: Findings) -> list[str]:
    sentences = []
    for row in sorted(found.recipes, key=_place):
        task = f" ({row['task']})" if len(found.tasks) > 1 else ""
        sentences.append(f"{row['kind'].capitalize()}{task}: {_settings(row['recipe'])}.")
    if not sentences:
        return ["Training recipes are not recorded."]
    return [OPTIMISER, *sentences]


def _place(recipe: Row) -> tuple[str, int]:
    kind = recipe["kind"]
    return recipe["task"], STAGES.index(kind) if kind in STAGES else len(STAGES)


def _lessons(found: Findings) -> list[str]:
    inverse = [row for row in found.lessons if row["direction"] == "inverse"]
    sizes = {(row["k"], row["teacher_positive"]) for row in inverse}
    sizes |= {(row["l"], row["student_positive"]) for row in inverse}
    slices = _list(f"{index} is {format_count(size)}" for index, size in sorted(sizes))
    requested = (found.spec or {}).get("lessons")
    if not requested or found.spec is None:
        return [f"Slices, in positive examples: {slices}.", f"Students: {NOT_RECORDED}."]
    return [
        f"Slices, in positive examples: {slices}; a teacher answers "
        f"{format_count(requested['queries'])} prompts for its student.",
        f"Lesson: {_settings(found.spec['training']['lesson'])}.",
    ]


def _evaluation(found: Findings) -> list[str]:
    sentences = []
    for row in found.requests:
        per_prompt = row["answers"] / max(row["states"] * row["prompts"], 1)
        sentences.append(
            f"{row['task']}: {format_count(row['prompts'])} held-out prompts; answers per "
            f"prompt: {format_number(per_prompt)}; {format_count(row['states'])} states "
            f"answered, by {_list(row['engines'] or ('?',))}; "
            f"{format_number(row['mean_tokens'])} tokens per answer on average "
            f"(probe {row['probe_id']})."
        )
    sampling = (found.spec or {}).get("generation")
    sentences.append(f"Sampling: {_settings(sampling) if sampling else NOT_RECORDED}.")
    return sentences


def _scorer(found: Findings) -> list[str]:
    requested = {task["name"]: task.get("scorer") for task in (found.spec or {}).get("task", ())}
    sentences = []
    for row in found.requests:
        accuracy = row["scorer_accuracy"]
        held_out = "not known" if accuracy is None else f"{accuracy:.1%}"
        settings = requested.get(row["task"]) or {}
        given = {name: value for name, value in settings.items() if value is not None}
        sentences.append(
            f"{row['task']}: {row['scorer']}"
            + (f" ({_settings(given)})" if given else "")
            + f"; accuracy on held-out labelled texts {held_out}"
            + _confusion(found, row["task"])
            + "."
        )
    return sentences or ["No answer is scored."]


def _confusion(found: Findings, task: str) -> str:
    """Return the scorer's sensitivity and specificity, where they are recorded."""
    every = (m.curve for m in found.measurements if m.curve.key.task == task)
    errors = next((curve.errors for curve in every if curve.errors is not None), None)
    if errors is None:
        return ""
    return (
        f" (sensitivity {errors.sensitivity:.1%} of {errors.aligned[1]}, specificity "
        f"{errors.specificity:.1%} of {errors.contrary[1]}); shares are also given corrected for "
        "these errors (Rogan and Gladen, 1978), with their uncertainty in the interval"
    )


def _environment(found: Findings) -> list[str]:
    sentences = []
    for row in found.made_with:
        machine = dict(row["hardware"])
        gpus = machine.get("gpus") or []
        accelerator = f"{len(gpus)} x {gpus[0]}" if gpus else "no GPU"
        minutes = format_number((row["seconds"] or 0) / 60)
        sentences.append(
            f"{format_count(row['states'])} states in {minutes} minutes of training: "
            f"{machine.get('cpu', '?')}, {machine.get('cores', '?')} cores, {accelerator}; "
            f"{row['workers'] or 1} workers, ZeRO stage {row['zero_stage'] or 0}; git revision "
            f"{row['git_revision'] or 'not known'}; {_settings(row['versions'])}."
        )
    return sentences or ["No state is recorded as done."]


def revisions(rows: Iterable[Row]) -> list[str]:
    """Return the distinct git revisions in rows of the view `made_with`."""
    return sorted({row["git_revision"] or "not known" for row in rows})


def _settings(values: Mapping[str, Any] | None) -> str:
    """Return settings as `name value, name value`, nested ones in brackets; no paths."""
    shown = []
    for name, value in (values or {}).items():
        if name == "path" or value is False:
            continue
        if isinstance(value, Mapping):
            shown.append(f"{name.replace('_', ' ')} ({_settings(value)})")
        elif value is not None:
            shown.append(f"{name.replace('_', ' ')} {_text(value)}")
    return ", ".join(shown)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:g}"
    whole = isinstance(value, int) and not isinstance(value, bool)
    return format_count(value) if whole else str(value)


def _list(items: Iterable[str]) -> str:
    return ", ".join(items)


def _minute(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
