"""The names of training runs and engines."""

from __future__ import annotations

from small_sweeps import Facts

from elastic_ray.plan import Plan, engine_names, ladder_names, plan_sweep
from elastic_ray.spec import Spec
from elastic_ray.spec.shorthand import expand


def plan_of(**changes: object) -> Plan:
    data = {
        "sweep": "named",
        "task": "reviews",
        "models": [
            {"name": "small", "init": {"hidden_size": 32, "layers": 1}, "pretrain": [64, 128]},
            {"name": "large", "init": {"hidden_size": 64, "layers": 1}, "pretrain": [128]},
        ],
        "positive": [16, 32],
        "negative": [0, 8],
        "training": {"global_batch": 8},
        **changes,
    }
    spec = Spec.model_validate(expand(data))
    return plan_sweep(spec, {name: Facts(name) for name in spec.datasets()}, {})


def test_training_runs_have_the_names_of_models_and_sizes() -> None:
    plan = plan_of()
    names = ladder_names(plan)
    assert set(names) == {ladder.id for ladder in plan.ladders}
    assert set(names.values()) == {
        "small: pre-training",
        "large: pre-training",
        *(f"small, {size} pre-trained: positive, seed 0" for size in (64, 128)),
        "large: positive, seed 0",
        *(
            f"small, {size} pre-trained: negative after {positive} positive, seed 0"
            for size in (64, 128)
            for positive in (16, 32)
        ),
        *(f"large: negative after {positive} positive, seed 0" for positive in (16, 32)),
    }


def test_lessons_are_named_by_teacher_and_student() -> None:
    names = ladder_names(plan_of(lessons={"pairs": [[1, 2]], "queries": 16}))
    assert "large: lesson of 16 to 32, seed 0" in names.values()
    assert "large: lesson of 32 to 16, seed 0" in names.values()


def test_engines_have_the_names_of_their_models() -> None:
    names = engine_names(plan_of())
    assert set(names.values()) == {"engine of small", "engine of large"}
    many = [
        {
            "name": f"m{i}",
            "init": {"hidden_size": 32, "layers": 1, "seed": i},
            "pretrain": [64],
        }
        for i in range(4)
    ]
    assert set(engine_names(plan_of(models=many)).values()) == {"engine of m0, m1 and 2 more"}
    distances = engine_names(plan_of(models=many[:2], lessons={"pairs": [[1, 2]], "queries": 16}))
    assert set(distances.values()) == {"engine of m0 and m1", "engine of m0 and m1 (distances)"}
