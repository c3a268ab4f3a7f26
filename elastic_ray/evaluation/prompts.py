"""The prompts and texts that the probes of a plan use."""

from __future__ import annotations

from collections.abc import Mapping

from ..plan import Plan
from ..serving.types import CodedText
from ..tasks.task import Task


def _texts(plan: Plan, loaded: Mapping[str, Task]) -> dict[str, dict[str, list[CodedText]]]:
    """Each task's held-out texts by distribution, as many as code lengths are asked of."""
    asked = plan.spec.probes.code_length
    count = asked.texts if asked else 0
    return {
        name: {
            kind: [
                CodedText(each.prompt, each.response) for each in loaded[name].texts(kind, count)
            ]
            for kind in probe.corpora
        }
        for name, probe in plan.probes.items()
    }


def _prompts(plan: Plan) -> int:
    """Held-out prompts of each task: those that every state answers, then those of lessons."""
    lessons = plan.spec.lessons
    return plan.spec.generation.prompts + (lessons.queries if lessons else 0)
