"""A scorer that knows next to nothing stops a sweep, with its accuracy and the remedy."""

from __future__ import annotations

import pytest

from elastic_ray.driver.setup_jobs import check_accuracy
from elastic_ray.spec import SpecError

CHANCE = {"accuracy": 516 / 900, "held_out": 900, "by_label": [(200, 450), (316, 450)]}


def test_a_scorer_at_chance_is_refused_with_its_interval_and_the_remedy() -> None:
    with pytest.raises(SpecError) as refused:
        check_accuracy("sentiment-1a", CHANCE, "task.0.scorer", allow_chance=False)
    assert str(refused.value) == (
        "task.0.scorer: scorer sentiment-1a: held-out accuracy 0.573 [0.541, 0.605] on 900 texts, "
        "not clearly better than chance (0.500); give a scorer that was trained elsewhere (hub or "
        "path) or more labelled texts, or set allow_chance: true to go on"
    )


def test_a_named_setting_goes_on() -> None:
    said = check_accuracy("sentiment-1a", CHANCE, "task.0.scorer", allow_chance=True)
    assert "0.573" in said and "the sweep goes on (scorer.allow_chance)" in said


def test_a_good_scorer_is_reported_also_from_an_earlier_record() -> None:
    record = {"accuracy": 0.9575, "held_out": 400}
    said = check_accuracy("sentiment-1a", record, "task.0.scorer", allow_chance=False)
    assert said == "scorer sentiment-1a: held-out accuracy 0.958 [0.933, 0.973] on 400 texts"
