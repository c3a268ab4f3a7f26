"""What a sweep answers, in sentences, with the strength of the evidence.

The questions are the paper's: does elasticity grow with model size, and with pre-training? A model
is more elastic if fewer negative examples bring it back to its baseline. The answer rests on the
reversion size; half-life and index stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..elasticity import Curve, Estimate, Scaling
from .formatting import format_compact, format_interval, format_number, format_p_value
from .labels import QUANTITY_LABELS

QUESTIONS: Mapping[str, str] = {
    "parameters": "Does elasticity grow with model size?",
    "pretrain_tokens": "Does elasticity grow with pre-training?",
}

EXPECTED: Mapping[str, int] = {
    "reversion_size": -1,
    "half_life": -1,
    "elasticity_index": 1,
    "early_rate": 1,
    "late_rate": -1,
}
"""The sign of each quantity's change with size if elasticity grows with it."""

_HEADLINE = ("reversion_size", "half_life", "elasticity_index")
_COUNTS = ("no", "one", "two", "three", "four")


@dataclass(frozen=True)
class Conclusion:
    """A question, the answer in a sentence, and `strength`: what the answer rests on."""

    question: str
    about: str
    answer: str
    strength: str

    @property
    def text(self) -> str:
        about = f" ({self.about})" if self.about else ""
        return f"{self.question}{about} {self.answer} {self.strength}".strip()


def conclude_scaling(found: Sequence[Scaling], curves: Iterable[Curve]) -> list[Conclusion]:
    """Return an answer per question and comparison; a question without comparison says why."""
    tasks = {curve.key.task for curve in curves}
    concluded = []
    for along, question in QUESTIONS.items():
        groups: dict[object, dict[str, Scaling]] = {}
        for s in found:
            if s.along == along:
                groups.setdefault(s.fixed, {})[s.quantity] = s
        concluded += [_concluded(question, each, len(tasks) > 1) for each in groups.values()]
        if not groups and tasks:
            what = "model sizes" if along == "parameters" else "pre-training sizes"
            concluded.append(
                Conclusion(
                    question,
                    "",
                    f"Not asked: the sweep has no two {what} with all else equal.",
                    "",
                )
            )
    return concluded


def common_settings(s: Scaling, *, with_task: bool) -> str:
    """Return what the compared models have in common, such as `pre-trained on 4k`."""
    fixed = dict(s.fixed)
    parts = [str(fixed["task"])] if with_task else []
    if s.along == "pretrain_tokens":
        parts.append(str(fixed["model"]))
    elif fixed["pretrain"] is not None:
        parts.append(f"pre-trained on {format_compact(float(str(fixed['pretrain'])))}")
    else:
        parts.append(str(fixed["family"]) if fixed.get("family") else "as published")
    return ", ".join(parts)


def change(s: Scaling, e: Estimate) -> Estimate:
    """Return a slope as the difference between the two sizes, if there are only two."""
    sizes = sorted(set(s.sizes))
    if len(sizes) != 2:
        return e
    decades = math.log10(sizes[1] / sizes[0])
    return Estimate(*(None if v is None else v * decades for v in (e.value, e.low, e.high)))


def direction(e: Estimate) -> int:
    """Return the sign that an interval tells: 1, -1, or 0 if it does not."""
    if e.low is not None and e.low > 0:
        return 1
    return -1 if e.high is not None and e.high < 0 else 0


def _concluded(question: str, found: Mapping[str, Scaling], with_task: bool) -> Conclusion:
    s = found["reversion_size"]
    about = common_settings(s, with_task=with_task)
    count = len(set(s.models))
    models = f"{_COUNTS[count] if count < len(_COUNTS) else count} models"
    e = change(s, s.slope)
    sign, same = direction(e), direction(s.same_runs)
    if s.slope == Estimate():
        why = f"{s.undefined} of {count * len(s.positives)} curves have no reversion size"
        return Conclusion(question, about, f"No answer: {why}.", _strength(s))
    if sign:
        verdict = "Yes" if sign == EXPECTED[s.quantity] else "No, the opposite"
        verdict += f" on these {models}"
    elif same:
        verdict = f"Not known: {'yes' if same == EXPECTED[s.quantity] else 'no, the opposite'} "
        verdict += "on these training runs, but others may differ"
    else:
        verdict = f"Not told apart on these {models}"
    details = [_detail(found[name]) for name in _HEADLINE if found[name].slope != Estimate()]
    per = "larger minus smaller" if len(set(s.sizes)) == 2 else "per tenfold size"
    answer = f"{verdict}: {'; '.join(details)} ({per})"
    if not sign and same:
        held = change(s, s.same_runs)
        answer += f"; over prompts alone, reversion {_shown(held)}"
    return Conclusion(question, about, f"{answer}.", _strength(s))


def _detail(s: Scaling) -> str:
    return f"{QUANTITY_LABELS[s.quantity].short} {_shown(change(s, s.slope))}"


def _shown(e: Estimate) -> str:
    shown = format_interval(e.value, e.low, e.high)
    return f"+{shown}" if e.value is not None and e.value > 0 else shown


def _strength(s: Scaling) -> str:
    count = len(set(s.models))
    over = "prompts" if s.seeds < 2 else f"prompts and {s.seeds} seeds"
    parts = [f"95% intervals over {over}"]
    if s.seeds == 1:
        parts.append("one seed cannot tell what other runs would give")
    elif s.seeds == 2:
        parts.append("two seeds leave wide intervals, and tell large effects only")
    number = f"{count} sizes" if count >= len(_COUNTS) else f"{_COUNTS[count]} sizes"
    if s.p_value is not None:
        parts.append(
            f"trend over {number}: tau {format_number(s.tau)}, {format_p_value(s.p_value)}"
        )
    runs = "" if s.replicates or s.along == "pretrain_tokens" else ", one pre-training run each,"
    if s.p_value is None and s.least_p >= 0.05:
        parts.append(f"{number}{runs} cannot show a trend")
    elif runs:
        parts.append("one pre-training run each: a size cannot be told from its run")
    return f"{_sentence('; '.join(parts))}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
