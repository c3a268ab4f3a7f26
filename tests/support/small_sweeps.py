"""Builds small specs, plans and Hypothesis strategies of specs, for the tests of planning."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from elastic_ray.plan import Plan, plan_sweep
from elastic_ray.spec import Spec
from elastic_ray.spec.shorthand import expand

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Facts:
    """The properties of a task that planning uses (`plan.TaskInfo`)."""

    name: str = "reviews"
    most: int = 10**9
    mean_tokens: float = 40.0
    identity: dict[str, Any] = field(init=False)
    sizes: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", {"task": self.name, "version": 1})
        pools = ("pretrain", "positive", "negative", "scorer", "prompts")
        object.__setattr__(self, "sizes", dict.fromkeys(pools, self.most))

    def tokenizer_identity(self, vocab_size: int | None) -> dict[str, Any]:
        return {"of": self.name, "vocab_size": vocab_size or 100}


def spec_of(**changes: Any) -> Spec:
    """Return a spec from the fields of a sweep file, with defaults for missing ones."""
    written = {
        "sweep": "small",
        "task": "reviews",
        "models": [{"name": "m", "init": {"hidden_size": 64, "layers": 1}, "pretrain": [64]}],
        "positive": [16],
        "negative": [8, 16],
        **changes,
    }
    if isinstance(written.get("training", {}), dict):
        written["training"] = {"global_batch": 8, **written.get("training", {})}
    return Spec.model_validate_json(json.dumps(expand(written)), strict=True)


def plan_of(spec: Spec, most: int = 10**9) -> Plan:
    """Return the plan, with tasks of `most` examples each, and folders hashed by their names."""
    tasks = {name: Facts(name, most) for name in spec.datasets()}
    paths = [model.path for model in spec.models]
    paths += [task.scorer.path for task in spec.task if task.scorer]
    return plan_sweep(spec, tasks, {path: f"content of {path}" for path in paths if path})


def plain(spec: Spec) -> Spec:
    """Return the spec without lessons, and without `instruct` and `positive` of its tasks."""
    own = {"instruct": None, "positive": None}
    tasks = tuple(task.model_copy(update=own) for task in spec.task)
    return spec.model_copy(update={"lessons": None, "task": tasks})


def sizes(most: int, count: int, least: int = 1) -> st.SearchStrategy[list[int]]:
    """Return a strategy of ascending distinct sizes."""
    return st.sets(st.integers(least, most), min_size=1, max_size=count).map(sorted)


_INIT = {"hidden_size": 64, "layers": 1}
_SOURCES = st.one_of(
    st.builds(
        lambda seed, pretrain: {"init": {**_INIT, "seed": seed}, "pretrain": pretrain},
        st.integers(0, 1),
        sizes(60, 3),
    ),
    st.builds(
        lambda pretrain: {"hub": "some/model-1b", "revision": COMMIT, "pretrain": pretrain},
        st.just([]) | sizes(60, 2),
    ),
    st.just({"path": "some/folder"}),
)


def recipes(lora: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of training recipes; `lora` includes recipes with adapters."""
    return st.fixed_dictionaries(
        {
            "global_batch": st.sampled_from([1, 2, 4, 5, 8]),
            "schedule": st.sampled_from(["constant", "constant", "cosine"]),
            "epochs": st.sampled_from([1, 1, 2]),
            "lora": st.sampled_from([None, {"rank": 4}] if lora else [None]),
        }
    )


def tasks() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return a strategy of one or two tasks, some with training before them (`instruct`)."""
    first = {"task": "imdb", "examples": 16}  # equals imdb's own positive state of that size
    circle = [
        {"name": "imdb", "instruct": {"task": "reviews", "examples": 8}},
        {"name": "reviews", "instruct": {"task": "imdb", "examples": 16}},
    ]
    return st.sampled_from(
        [
            [{"name": "reviews"}],
            [{"name": "reviews", "instruct": first, "scorer": None}],
            [{"name": "imdb"}, {"name": "reviews"}],
            [{"name": "imdb", "positive": [8, 16]}, {"name": "reviews", "instruct": first}],
            circle,
        ]
    )


def specs() -> st.SearchStrategy[Spec]:
    """Return a strategy of specs with up to three models and two tasks.

    The same model may occur under several names.
    """
    return st.builds(
        lambda sources, tasks, positive, negative, zero, seeds, pretrain, up, down, keep, lessons: (
            spec_of(
                task=tasks,
                models=[{"name": f"m{i}", **source} for i, source in enumerate(sources)],
                positive=positive,
                negative=[0, *negative] if zero else negative,
                seeds=seeds,
                training={"pretrain": pretrain, "positive": up, "negative": down},
                keep=keep,
                lessons=lessons if len(positive) > 1 else None,
            )
        ),
        st.lists(_SOURCES, min_size=1, max_size=3),
        tasks(),
        sizes(40, 3),
        sizes(40, 4),
        st.booleans(),
        sizes(3, 2, least=0),
        recipes(lora=False),
        recipes(),
        recipes(),
        st.sampled_from(["all", "none", "base"]),
        st.sampled_from([None, None, {"pairs": [[1, 2]], "queries": 12}]),
    )
