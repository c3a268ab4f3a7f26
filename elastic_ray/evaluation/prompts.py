"""The held-out prompts and texts that the evaluation of a plan uses."""

from __future__ import annotations

from collections.abc import Mapping

from ..plan import Plan
from ..serving.types import CodedText
from ..tasks.task import Task


def evaluation_prompts(plan: Plan, loaded: Mapping[str, Task]) -> dict[str, list[str]]:
    """Return each task's prompts: those that every state answers, then those of lessons."""
    lessons = plan.spec.lessons
    count = plan.spec.generation.prompts + (lessons.queries if lessons else 0)
    return {name: loaded[name].prompts(count) for name in plan.probes}


def code_length_texts(
    plan: Plan, loaded: Mapping[str, Task]
) -> dict[str, dict[str, list[CodedText]]]:
    """Return each task's held-out texts by distribution, as many as code lengths are measured of.

    The lists are empty where the sweep measures no code lengths.
    """
    code_length = plan.spec.probes.code_length
    count = code_length.texts if code_length else 0
    return {
        name: {
            kind: [
                CodedText(each.prompt, each.response) for each in loaded[name].texts(kind, count)
            ]
            for kind in probe.corpora
        }
        for name, probe in plan.probes.items()
    }
