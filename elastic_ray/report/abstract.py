"""The report's abstract: the question, what was run, what came out, and what limits it."""

from __future__ import annotations

from collections.abc import Sequence

from elastic_ray.analysis.conclusions import Conclusion
from elastic_ray.analysis.formatting import format_count
from elastic_ray.analysis.summaries import notable, summarize_curves

from .findings import Findings

PAPER = "Language Models Resist Alignment: Evidence From Data Compression"
PAPER_AUTHORS = "Ji et al., 2024"
PAPER_URL = "https://arxiv.org/abs/2406.06144"

_QUESTION = (
    f"{PAPER} ({PAPER_AUTHORS}, arXiv:2406.06144) claims that a fine-tuned model returns to its "
    "pre-trained behaviour under little contrary fine-tuning, the more readily the larger the "
    "model and its pre-training data (elasticity)."
)


def abstract(found: Findings, answers: Sequence[str] = ()) -> list[str]:
    """Return the abstract, a sentence or two each; `answers` are those of further sections."""
    rows = [m.row() for m in found.measurements]
    answer, strength = summarize_curves(rows)
    failed = int(found.progress.get("failed") or 0)
    return [
        _QUESTION,
        _run(found),
        *([f"{answer} {_sentence(strength)}"] if answer else []),
        *(_short(each) for each in found.conclusions),
        *answers,
        *notable(rows, failed),
    ]


def _short(each: Conclusion) -> str:
    about = f" ({each.about})" if each.about else ""
    return f"{each.question}{about} {each.answer}"


def _sentence(strength: str) -> str:
    return strength.partition(";")[0].rstrip(".") + "."


def _run(found: Findings) -> str:
    models = {(row["model"], row["pretrain"]) for row in found.cells}
    seeds = {row["seed"] for row in found.cells}
    progress = found.progress
    return (
        f"This sweep fine-tunes {len(models)} pre-trained model{'s' * (len(models) != 1)} on "
        f"positive, then on negative examples of {', '.join(found.tasks)}, with "
        f"{len(seeds)} seed{'s' * (len(seeds) != 1)}; {format_count(progress['done'])} of "
        f"{format_count(progress['cells'])} grid points are measured."
    )
