"""The answers of a sweep: what they say, and what they say cannot be known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from planted import NEGATIVES, curve

from elastic_ray.analysis.conclusions import Conclusion, conclude_scaling
from elastic_ray.elasticity import Curve, scaling
from elastic_ray.spec.model import Model

REVISION = "0" * 40


def models(reversions: Sequence[float], **more: object) -> list[Curve]:
    """Models of 10^5, 10^6, ... that are back at 0 after so many examples."""
    return [
        curve(
            [1.0, *(1.4 - 1.4 / math.log(n0) * math.log(n) for n in NEGATIVES[1:])],
            model=f"m{i}", parameters=10 ** (5 + i), draw=i, noise=0.2, prompts=200, **more,
        )
        for i, n0 in enumerate(reversions)
    ]  # fmt: skip


def concluded(curves: list[Curve]) -> Conclusion:
    found = conclude_scaling(scaling(curves, 400), curves)
    assert [each.question for each in found] == [
        "Does elasticity grow with model size?",
        "Does elasticity grow with pre-training?",
    ]
    assert (
        found[1].answer == "Not asked: the sweep has no two pre-training sizes with all else equal."
    )
    return found[0]


def test_two_models_answer_for_themselves_and_show_no_trend() -> None:
    found = concluded(models([300, 60], seeds=6))
    assert found.answer.startswith("Yes on these two models: reversion -2")
    assert "(larger minus smaller)" in found.answer
    assert "prompts and 6 seeds" in found.strength
    assert "two sizes, one pre-training run each, cannot show a trend" in found.strength
    assert "p =" not in found.text and "tau" not in found.text


def test_the_opposite_is_said() -> None:
    found = concluded(models([60, 300], seeds=6))
    assert found.answer.startswith("No, the opposite on these two models: reversion +2")


def test_one_seed_cannot_speak_for_others() -> None:
    assert (
        "one seed cannot tell what other runs would give"
        in concluded(models([300, 60], seeds=1)).strength
    )


def test_models_that_are_alike_are_not_told_apart() -> None:
    assert concluded(models([100, 100], seeds=6)).answer.startswith("Not told apart on these two")


def test_five_sizes_are_tested() -> None:
    found = concluded(models([300, 200, 140, 100, 60], seeds=6))
    assert "per tenfold size" in found.answer
    assert "trend over 5 sizes: tau -1, p = 0.017" in found.strength


def test_curves_that_never_return_have_no_answer() -> None:
    flat = [
        curve([1.0] + [0.8] * 6, model=f"m{i}", parameters=10**i, noise=0.05, prompts=100)
        for i in (5, 6)
    ]
    assert concluded(flat).answer == "No answer: 2 of 2 curves have no reversion size."


@pytest.mark.parametrize(
    ("hub", "family", "tokens"),
    [
        ("TinyLlama/TinyLlama-1.1B-step-50K-105b", "TinyLlama", 105 * 10**9),
        ("TinyLlama/TinyLlama-1.1B-intermediate-step-480k-1T", "TinyLlama", 10**12),
        ("TinyLlama/TinyLlama-1.1B-intermediate-step-1195k-token-2.5T", "TinyLlama", 25 * 10**11),
        ("Qwen/Qwen1.5-0.5B", "Qwen1.5", None),
        ("EleutherAI/pythia-70m", "pythia", None),
        ("someone/nothing-to-read", None, None),
    ],
)
def test_the_hubs_name_tells_family_and_tokens(hub: str, family: object, tokens: object) -> None:
    model = Model(name="m", hub=hub, revision=REVISION)
    assert (model.family_used, model.tokens_used) == (family, tokens)
    given = Model(name="m", hub=hub, revision=REVISION, family="own", tokens="2.5T")
    assert (given.family_used, given.tokens_used) == ("own", 25 * 10**11)
