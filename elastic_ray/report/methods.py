"""What was run, in sentences, from what is recorded; what is not on record is said to be so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from elastic_ray.analysis.formatting import format_compact, format_count, format_number
from elastic_ray.spec import STAGES

from .findings import Findings, Row

NOT_RECORDED = "not on record (the sweep ran before sweeps recorded what they ask for)"

STATISTICS = (
    "s(p, n) is the mean score over prompts and seeds after p positive, then n negative examples; "
    "larger is more aligned. Retention is (s(p, n) - s(0, 0)) / (s(p, 0) - s(0, 0)); the reversion "
    "size and the half-life are where it first reaches 0 and 0.5, interpolated on log n. The early "
    "rate is the gap s(p, 0) - s(0, 0) over the reversion size, the late rate the fall from the "
    "base line to the largest n over the examples between, both per 100 examples; the elasticity "
    "index is log(early / late).",
    "Intervals are 95%, from a bootstrap over prompts with seeds held fixed: percentile, for the "
    "index BCa. Differences and slopes draw the prompts once for all curves (paired). A fitted "
    "surface is the family, of seven, with the smallest error at sizes left out of the fit; "
    "its intervals are percentiles of the fits to each resample, for shares and powers corrected "
    "for bias. Trends are Kendall's tau within "
    "positive sizes with a two-sided permutation p-value that moves whole models, plain and "
    "adjusted (Holm).",
)


PATHS = (
    "Of two slices k < l of one fine-tuning, the inverse path teaches the state of slice l what "
    "that of slice k answers, the forward path the other way round. The distance of a student from "
    "its teacher is measured on the teacher's own answers to other held-out prompts, over the "
    "whole vocabulary: a mean over an answer's tokens, then over prompts and seeds. Intervals are "
    "95% percentile intervals of a bootstrap over prompts, drawn with both paths and all seeds; "
    "p-values are two-sided, of a permutation test that flips the sign of each prompt's "
    "difference, seeds averaged (exact up to 13 prompts, else 9999 random flips). Seeds are held "
    "fixed.",
)


def methods(found: Findings) -> list[tuple[str, list[str]]]:
    """(subject, sentences), in the order to be read."""
    paths = PATHS if found.lessons else ()
    return [
        ("Sweep", _sweep(found)),
        ("Models", _models(found)),
        ("Data", _data(found)),
        ("Sizes and seeds", _sizes(found)),
        ("Training", _training(found)),
        *([("Lessons", _lessons(found))] if found.lessons else []),
        ("Questions", _questions(found)),
        ("Scorer", _scorer(found)),
        ("Software and hardware", _environment(found)),
        ("Statistics", [*(STATISTICS if found.measurements else ()), *paths]),
    ]


def _sweep(found: Findings) -> list[str]:
    p = found.progress
    said = [
        f"Sweep {found.sweep}, results in {found.uri}: {format_count(p['cells'])} cells, "
        f"{format_count(p['done'])} scored, {format_count(p['failed'])} failed, {format_count(p['pending'])} pending; "
        f"{format_count(p['states'])} states."
    ]
    if p["started_at"] is not None:
        said.append(f"First state started {_day(p['started_at'])}, last one made "
                    f"{_day(p['last_state_at'])} (UTC).")  # fmt: skip
    return said


def _models(found: Findings) -> list[str]:
    said = []
    for row in found.starts:
        start = dict(row["start"])
        kind = start.pop("kind", "?")
        shape = start.get("init") or {}
        told = {
            "init": f"trained from scratch ({_pairs(shape)})",
            "hub": f"{start.get('repo')} at revision {start.get('revision')}",
            "folder": f"a checkpoint folder of content {start.get('content')}",
        }.get(kind, kind)
        sizes = {c["parameters"] for c in found.cells if c["model"] == row["model"]} - {None}
        tokens = sorted({c["pretrain_tokens"] for c in found.cells if c["model"] == row["model"]}
                        - {None})  # fmt: skip
        many = f", {format_compact(max(sizes))} parameters" if sizes else ""
        read = (
            f", pre-trained on {_and(format_compact(t) for t in tokens)} tokens"
            if any(tokens)
            else ""
        )
        said.append(f"{row['model']}: {told}{many}{read}.")
    return said or ["Where the weights start is not on record."]


def _data(found: Findings) -> list[str]:
    said = []
    asked = {t["name"]: t for t in (found.spec or {}).get("task", ())}
    for task in found.tasks:
        settings = asked.get(task, {}).get("data")
        digests = sorted({r["data"] for r in found.recipes if r["task"] == task})
        said.append(
            f"Task {task}"
            + (f" with {_pairs(settings)}" if settings else "")
            + (f"; digest of its data {_and(digests)}" if digests else "")
            + "."
        )
    return said


def _sizes(found: Findings) -> list[str]:
    def of(name: str) -> str:
        return _and(format_count(v) for v in sorted({c[name] for c in found.cells} - {None}))

    fine = [c for c in found.cells if c["positive"]]
    said = [
        f"Positive examples: {_and(format_count(v) for v in sorted({c['positive'] for c in fine}))}; "
        f"negative: {_and(format_count(v) for v in sorted({c['negative'] for c in fine}))}; "
        f"seeds: {of('seed')} (order and choice of the fine-tuning examples)."
    ]
    if of("pretrain"):
        said.insert(0, f"Pre-training examples: {of('pretrain')}.")
    return said


def _training(found: Findings) -> list[str]:
    said = []
    for row in sorted(found.recipes, key=_place):
        task = f" ({row['task']})" if len(found.tasks) > 1 else ""
        said.append(f"{row['kind'].capitalize()}{task}: {_pairs(row['recipe'])}.")
    return said or ["Recipes are not on record."]


def _lessons(found: Findings) -> list[str]:
    inverse = [row for row in found.lessons if row["direction"] == "inverse"]
    sizes = {(row["k"], row["teacher_positive"]) for row in inverse}
    sizes |= {(row["l"], row["student_positive"]) for row in inverse}
    slices = _and(f"{number} is {format_count(size)}" for number, size in sorted(sizes))
    asked = (found.spec or {}).get("lessons")
    if not asked or found.spec is None:
        return [f"Slices, in positive examples: {slices}.", f"Students: {NOT_RECORDED}."]
    return [
        f"Slices, in positive examples: {slices}; a teacher answers {format_count(asked['queries'])} "
        "prompts for its student.",
        f"Lesson: {_pairs(found.spec['training']['lesson'])}.",
    ]


def _place(recipe: Row) -> tuple[str, int]:
    kind = recipe["kind"]
    return recipe["task"], STAGES.index(kind) if kind in STAGES else len(STAGES)


def _questions(found: Findings) -> list[str]:
    said = []
    for row in found.requests:
        per_prompt = row["answers"] / max(row["states"] * row["prompts"], 1)
        said.append(
            f"{row['task']}: {format_count(row['prompts'])} held-out prompts, answers to each: "
            f"{format_number(per_prompt)}; "
            f"{format_count(row['states'])} states answered, by {_and(row['engines'] or ('?',))}; "
            f"{format_number(row['mean_tokens'])} tokens an answer on average (probe {row['probe_id']})."
        )
    sampling = (found.spec or {}).get("generation")
    said.append(f"Sampling: {_pairs(sampling) if sampling else NOT_RECORDED}.")
    return said


def _scorer(found: Findings) -> list[str]:
    asked = {t["name"]: t.get("scorer") for t in (found.spec or {}).get("task", ())}
    said = []
    for row in found.requests:
        accuracy = row["scorer_accuracy"]
        held_out = "not known" if accuracy is None else f"{accuracy:.1%}"
        told = {k: v for k, v in (asked.get(row["task"]) or {}).items() if v is not None}
        said.append(
            f"{row['task']}: {row['scorer']}"
            + (f" ({_pairs(told)})" if told else "")
            + f"; accuracy on held-out labelled texts {held_out}."
        )
    return said or ["No answer is scored."]


def _environment(found: Findings) -> list[str]:
    said = []
    for row in found.made_with:
        machine = dict(row["hardware"])
        gpus = machine.get("gpus") or []
        on = f"{len(gpus)} x {gpus[0]}" if gpus else "no GPU"
        said.append(
            f"{format_count(row['states'])} states in {format_number((row['seconds'] or 0) / 60)} minutes of "
            f"training: {machine.get('cpu', '?')}, {machine.get('cores', '?')} cores, {on}; "
            f"{row['workers'] or 1} workers, ZeRO stage {row['zero_stage'] or 0}; git revision "
            f"{row['git_revision'] or 'not known'}; {_pairs(row['versions'])}."
        )
    return said or ["No state is recorded as done."]


def _pairs(values: Mapping[str, Any] | None) -> str:
    shown = []
    for name, value in (values or {}).items():
        if isinstance(value, Mapping):
            shown.append(f"{name.replace('_', ' ')} ({_pairs(value)})")
        elif value is not None:
            shown.append(f"{name.replace('_', ' ')} {_plain(value)}")
    return ", ".join(shown)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:g}"
    return (
        format_count(value)
        if isinstance(value, int) and not isinstance(value, bool)
        else str(value)
    )


def _and(words: Iterable[str]) -> str:
    return ", ".join(words)


def _day(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def revisions(rows: Iterable[Row]) -> list[str]:
    """The distinct git revisions among rows of `made_with`."""
    return sorted({row["git_revision"] or "not known" for row in rows})
