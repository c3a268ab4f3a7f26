"""What a scorer is given of an answer, and what is told when it has started."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from small_sweeps import plan_of, spec_of

from elastic_ray.evaluation.scoring import EXAMPLES, MadeScorer, ScoringRunner
from elastic_ray.plan import ANSWERS, EvaluationRequest
from elastic_ray.progress.tracker import ProgressTracker
from elastic_ray.results.store import Results
from elastic_ray.serving.types import Answer, Reply, Score, ScorerConfig
from elastic_ray.tasks.dialogue import prompt_of, question_in
from elastic_ray.tasks.registry import load_task


class Counting:
    """A fleet whose scorer counts words of praise, times `sign`."""

    def __init__(self, sign: int) -> None:
        self._sign, self.read = sign, []  # type: ignore[var-annotated]

    async def open_scorer(self, config: ScorerConfig) -> dict[str, str]:
        return {"engine": "counting 1.0"}

    async def score(self, name: str, texts: list[Any]) -> Reply[Score]:
        self.read.append(texts)
        good = [str(text).count("good") + str(text).count("great") for text in texts]
        return Reply([Score(float(self._sign * count), None) for count in good], 0.1)


def run(tmp_path: Path, sign: int) -> tuple[Counting, list[str]]:
    """Score one answer of the base state; return the fleet and what was told."""
    plan = plan_of(spec_of())
    fleet, told, results = Counting(sign), list[str](), Results(tmp_path / "results")
    config = ScorerConfig("s", "auto", "folder", None, "mean")

    async def made() -> MadeScorer:
        return config, None

    async def score() -> None:
        request = next(each for each in plan.requests() if each.kind == ANSWERS)
        assert isinstance(request, EvaluationRequest)
        tracker = ProgressTracker(plan, [], [], [])
        loaded = {"reviews": load_task("reviews")}
        runner = ScoringRunner(
            plan, results, tracker, fleet, {"reviews": made()}, loaded, told.append  # type: ignore[arg-type, dict-item]
        )  # fmt: skip
        answer = Answer(0, 0, "the film", " is great ", 3, "stop", request.state_id, 0, "e")
        await runner.score(request, [answer])

    asyncio.run(score())
    return fleet, told


@pytest.mark.parametrize(("sign", "warned"), [(1, False), (-1, True)])
def test_a_wrong_sign_shows_in_the_scores_of_the_tasks_examples(
    sign: int, warned: bool, tmp_path: Path
) -> None:
    fleet, told = run(tmp_path, sign)
    examples, texts = fleet.read
    assert len(examples) == 2 * EXAMPLES and texts == ["the film is great "]
    (line,) = [line for line in told if "positive examples" in line]
    assert f"mean of {EXAMPLES} positive examples {'-' * warned}" in line
    assert ("label or sign?" in line) == warned


def test_the_question_of_a_prompt_is_found_again() -> None:
    assert question_in(prompt_of("why {so} ?")) == "why {so} ?"
    with pytest.raises(ValueError, match="no prompt of a dialogue"):
        question_in("the film")
