"""Identity: an id covers everything that can change a state's weights, and nothing else."""

from __future__ import annotations

import enum
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sweeps import COMMIT, Facts, plan_of, spec_of

from elastic_ray.plan import Answers, Plan, canonical
from elastic_ray.plan.identity import (
    ID_LENGTH,
    IdentityError,
    Stage,
    corpus_id,
    digest,
    distance_id,
    folder_start,
    hub_start,
    identity_of,
    init_start,
    lesson_stage,
    probe_id,
    queries_id,
    scorer_id,
    state_id,
)
from elastic_ray.spec import (
    CodeLength,
    Generation,
    Init,
    Lessons,
    Lora,
    ModelRuntime,
    Part,
    Recipe,
    Scorer,
)

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parent

# Canonical JSON

PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
FINITE = PLAIN.filter(lambda v: not isinstance(v, float) or abs(v) != float("inf"))
VALUES = st.recursive(
    FINITE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def typed(value: Any) -> Any:
    """Return a form of the value in which 1, 1.0 and True differ, and 0.0 and -0.0."""
    if isinstance(value, list):
        return [typed(element) for element in value]
    if isinstance(value, dict):
        return {key: typed(element) for key, element in value.items()}
    return type(value).__name__, repr(value)


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_canonical_json_can_be_parsed_back(value: Any) -> None:
    text = canonical(value)
    assert text.isascii()
    assert typed(json.loads(text)) == typed(value)


@given(VALUES, VALUES)
@settings(max_examples=200, deadline=None)
def test_different_values_have_different_canonical_json(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (typed(one) == typed(other))


@given(st.dictionaries(st.text(), FINITE, max_size=6), st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_order_of_keys_does_not_matter(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert canonical(dict(items)) == canonical(value)


def test_numbers_of_different_kinds_differ() -> None:
    assert [canonical(v) for v in (1, 1.0, True)] == ["1", "1.0", "true"]
    assert len({digest(v) for v in (1, 1.0, True, "1", [1], {"1": 1}, None)}) == 7


def test_a_tuple_is_a_list() -> None:
    assert canonical({"b": (1, 2), "a": "\u00e9"}) == '{"a":"\\u00e9","b":[1,2]}'


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (float("nan"), "value: nan"),
        (float("inf"), "value: inf"),
        ({"a": [0, float("-inf")]}, r"value\.a\[1\]: -inf"),
        ({"a": {1, 2}}, r"value\.a: a set"),
        ([object()], r"value\[0\]: a object"),
        ({"a": {3: 1}}, r"value\.a: the key 3 is not text"),
        ({None: 1}, "value: the key None is not text"),
        (b"text", "value: a bytes"),
        (np.float64(1.0), "value: a float64"),
        (np.int64(1), "value: a int64"),
        (Colour.RED, "value: a Colour"),
        ({Colour.RED: 1}, "the key <Colour.RED: 'red'> is not text"),
        (Path("x"), "value: a .*Path"),
        (Recipe(), "value: a Recipe"),
    ],
)
def test_values_without_a_stable_form_are_refused(value: Any, where: str) -> None:
    with pytest.raises(IdentityError, match=where):
        canonical(value)


# Ids that never change: a recorded state is found by them. A new value here needs a new
# `IDENTITY_VERSION`, and makes every recorded state of the kind unknown.


GOLDEN = {
    "init": "f2a41625126f0d5d98d5",
    "hub": "fdc79ea1cd212b4e83fb",
    "folder": "4b5f2a4e42d4dc3fadd6",
    "pretrain": "b94ba6048f033363b750",
    "positive": "3adfc8994cfbb84656b4",
    "probe": "0c04c42c75fa810db66a",
    "scorer": "sentiment-1accb4b1",
    "hub scorer": "s-0b5ba871",
    "lesson": "908187bd470bbafbebfc",
    "queries": "67cafd28349f03e76715",
    "distances": "28b8ec01ac4d6cd68c00",
}


def test_golden_ids() -> None:
    start = init_start(Init(hidden_size=64, layers=2), Facts().tokenizer_identity(None))
    stage = Stage("pretrain", "pretrain", 0, Recipe(), digest(Facts().identity))
    lora = Stage("positive", "positive", 3, Recipe(lora=Lora(), precision="bf16"), "data")
    base = state_id(start.state_id, stage, 4000)
    taught = lesson_stage(Answers("teacher", "questions"), 1, Recipe())
    lessons = Lessons(pairs=((1, 2),), queries=16)
    found = {
        "init": start.state_id,
        "hub": hub_start("some/model", COMMIT).state_id,
        "folder": folder_start("/anywhere", "content").state_id,
        "pretrain": base,
        "positive": state_id(base, lora, 200),
        "probe": probe_id(Facts().identity, Generation(), "float32"),
        "scorer": scorer_id(Scorer(), {"trained_on": Facts().identity}),
        "hub scorer": scorer_id(Scorer(name="s", hub="a/b", revision=COMMIT), {}),
        "lesson": state_id(base, taught, 16),
        "queries": queries_id(Facts().identity, Generation(), lessons, "float32"),
        "distances": distance_id("questions"),
    }
    assert found == GOLDEN


def ids(plan: Plan) -> dict[str, Any]:
    """Return every id of a plan by what it identifies."""
    return {
        "states": sorted(plan.states),
        "probes": [(task, probe.probe_id, probe.scorer) for task, probe in plan.probes.items()],
        "cells": [
            (c.task, c.pretrain, c.positive, c.negative, c.seed, c.state_id) for c in plan.cells
        ],
    }


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_ids_are_equal_in_every_process(seed: str, tmp_path: Path) -> None:
    code = "import json, test_identity as t; print(json.dumps(t.ids(t.sample())))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, TESTS, TESTS.parent / "support"))),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(ids(sample())))


def sample(**changes: Any) -> Plan:
    """Return a plan with every kind of start state, and adapters."""
    written = {
        "models": [
            {"name": "i", "init": {"hidden_size": 64, "layers": 1}, "pretrain": [64, 128]},
            {"name": "h", "hub": "some/model", "revision": COMMIT},
            {"name": "f", "path": "a/folder", "pretrain": [32]},
        ],
        "positive": [16, 32],
        "training": {"positive": {"lora": {"rank": 4}}},
        "seeds": [0, 1],
        **changes,
    }
    return plan_of(spec_of(**written))


def test_ids_are_short_hex_and_distinct() -> None:
    plan = sample()
    assert all(len(state) == ID_LENGTH and int(state, 16) >= 0 for state in plan.states)
    # 4 bases, and for each of two seeds 2 positive states with 2 negative ones each.
    assert len(plan.states) == 3 + 3 + 4 * 2 * (2 + 2 * 2)


# What each field is

PARTS = sorted(Part.__subclasses__(), key=lambda part: part.__name__)


@pytest.mark.parametrize("part", PARTS)
def test_every_field_declares_its_role(part: type[Part]) -> None:
    """Identity fields can change weights or answers, runtime fields cannot; grid adds cells."""
    for name, info in part.model_fields.items():
        extra = info.json_schema_extra
        role = extra.get("role") if isinstance(extra, dict) else None
        assert role in ("identity", "runtime", "grid"), f"{part.__name__}.{name}: {role}"


def fields(role: str, *parts: type[Part]) -> set[str]:
    """Return `Part.field` for each field of that role that holds a value and not a part."""
    return {
        f"{part.__name__}.{name}"
        for part in parts
        for name, info in part.model_fields.items()
        if info.json_schema_extra == {"role": role}  # type: ignore[comparison-overlap]
        and not (isinstance(info.annotation, type) and issubclass(info.annotation, Part))
    }


RECIPES: dict[str, Any] = {
    "learning_rate": 3e-4,
    "schedule": "cosine",
    "warmup_steps": 1,
    "epochs": 2,
    "global_batch": 16,
    "betas": (0.9, 0.99),
    "epsilon": 1e-6,
    "weight_decay": 0.1,
    "precision": "bf16",
    "max_grad_norm": 0.5,
    "max_length": 128,
    "lora": Lora(),
}
LORAS: dict[str, Any] = {
    "rank": 4,
    "alpha": 8.0,
    "dropout": 0.1,
    "target_modules": ("q_proj",),
}
INITS: dict[str, Any] = {
    "architecture": "mistral",
    "hidden_size": 128,
    "layers": 3,
    "heads": 4,
    "kv_heads": 1,
    "intermediate_size": 100,
    "positions": 1024,
    "tied": False,
    "seed": 1,
}
GENERATIONS: dict[str, Any] = {
    "prompts": 10,
    "samples": 2,
    "max_tokens": 9,
    "temperature": 0.5,
    "top_k": 0,
    "top_p": 1.0,
    "seed": 1,
    "deterministic": True,
}
SCORERS: dict[str, Any] = {
    "name": "other",
    "mode": "mean",
    "hub": "c/d",
    "revision": COMMIT[::-1],
    "label": 0,
    "text": "plain",
    "sign": -1,
}


def test_each_field_of_a_recipe_changes_the_state() -> None:
    def ident(recipe: Recipe) -> str:
        return state_id("parent", Stage("positive", "positive", 0, recipe, "data"), 100)

    assert set(RECIPES) == set(Recipe.model_fields)
    assert set(LORAS) == set(Lora.model_fields)
    assert fields("identity", Recipe, Lora) == {
        *(f"Recipe.{name}" for name in RECIPES),
        *(f"Lora.{name}" for name in LORAS),
    }
    found = [ident(Recipe(**{name: value})) for name, value in RECIPES.items()]
    found += [ident(Recipe(lora=Lora(**{name: value}))) for name, value in LORAS.items()]
    assert len({ident(Recipe()), *found}) == 1 + len(found)


def test_each_part_of_a_stage_changes_the_state() -> None:
    plain = ("parent", ("positive", "positive", 0, Recipe(), "data"), 100)
    others = [
        ("other", *plain[1:]),
        ("parent", ("positive", "negative", 0, Recipe(), "data"), 100),
        ("parent", ("positive", "positive", 1, Recipe(), "data"), 100),
        ("parent", ("positive", "positive", 0, Recipe(), "other"), 100),
        ("parent", plain[1], 101),
    ]
    found = {state_id(parent, Stage(*stage), n) for parent, stage, n in (plain, *others)}
    assert len(found) == 1 + len(others)


def test_each_field_of_an_init_changes_the_start() -> None:
    def ident(**changes: Any) -> str:
        init = Init(**{"hidden_size": 64, "layers": 2, **changes})
        return init_start(init, Facts().tokenizer_identity(init.vocabulary)).state_id

    assert {f"Init.{name}" for name in (*INITS, "vocabulary")} == fields("identity", Init)
    found = [ident(**{name: value}) for name, value in INITS.items()]
    found.append(ident(vocabulary=300))  # through the tokenizer's identity
    assert len({ident(), *found}) == 1 + len(found)


def test_an_explicit_default_gives_the_same_start() -> None:
    tokenizer = Facts().tokenizer_identity(None)
    plain = init_start(Init(hidden_size=64, layers=2), tokenizer)
    named = Init(hidden_size=64, layers=2, heads=2, kv_heads=2, intermediate_size=256)
    assert init_start(named, tokenizer).state_id == plain.state_id


def test_the_tokenizer_changes_the_start() -> None:
    init = Init(hidden_size=64, layers=2)
    found = {init_start(init, {"of": name}).state_id for name in ("one", "other")}
    assert len(found) == 2


def test_each_field_of_generation_changes_the_probe() -> None:
    assert {f"Generation.{name}" for name in GENERATIONS} == fields("identity", Generation)
    found = [probe_id({}, Generation(**{n: v}), "float32") for n, v in GENERATIONS.items()]
    found += [probe_id({}, Generation(), "bfloat16"), probe_id({"a": 1}, Generation(), "float32")]
    assert len({probe_id({}, Generation(), "float32"), *found}) == 1 + len(found)


def test_each_field_of_code_lengths_changes_the_corpus() -> None:
    changed: dict[str, Any] = {"texts": 10, "window": 100}
    assert {f"CodeLength.{name}" for name in changed} == fields("identity", CodeLength)

    def ident(kind: str = "positive", dtype: str = "float32", **changes: Any) -> str:
        return corpus_id(kind, {"task": "t"}, CodeLength(**changes), dtype)

    found = [ident(**{name: value}) for name, value in changed.items()]
    found += [ident(dtype="bfloat16"), ident("negative")]
    found.append(corpus_id("positive", {"task": "other"}, CodeLength(), "float32"))
    assert len({ident(), *found}) == 1 + len(found)
    assert ident().startswith("positive-")


def test_each_field_of_a_scorer_changes_its_id() -> None:
    def ident(**changes: Any) -> str:
        plain = {"hub": "a/b", "revision": COMMIT, "mode": "mean"}
        return scorer_id(Scorer(**{**plain, **changes}), {})

    assert {f"Scorer.{name}" for name in SCORERS} == fields("identity", Scorer)
    others = {**SCORERS, "mode": "share"}
    found = [ident(**{name: value}) for name, value in others.items()]
    found.append(scorer_id(Scorer(), {"content": "x"}))
    assert len({ident(), *found}) == 1 + len(found)
    assert ident().startswith("sentiment-")


# Each runtime field of the spec, as it is written, with another value than the default.
SERVING: dict[str, Any] = {
    "engine": "transformers",
    "replicas": 2,
    "cpus": 2.0,
    "gpus": 1.0,
    "tensor_parallel": 2,
    "context": 256,
    "kv_cache_gib": 2.0,
    "gpu_memory": 0.5,
}
RUNTIMES: dict[str, Any] = {
    "workers": 2,
    "zero_stage": 3,
    "micro_batch": 1,
    "checkpointing": True,
    "offload": "optimizer",
    "cpus_per_worker": 2.0,
    "gpus_per_worker": 1.0,
    "max_untaught": 0.5,
}


def test_no_runtime_field_changes_an_id() -> None:
    models = [
        {"name": "i", "init": {"hidden_size": 64, "layers": 1}, "pretrain": [64, 128]},
        {"name": "h", "hub": "some/model", "revision": COMMIT},
        {"name": "f", "path": "a/folder", "pretrain": [32]},
    ]
    trusting = [models[0], *({**model, "trust_remote_code": True} for model in models[1:])]
    scorer = {"name": "s", "hub": "a/b", "revision": COMMIT}
    tried: dict[str, dict[str, Any]] = {
        **{f"Runtime.{n}": {"training": {"zero_stage": 1, n: v}} for n, v in RUNTIMES.items()},
        **{f"ModelRuntime.{n}": {"models": [{**models[0], "runtime": {"zero_stage": 2, n: v}},
                                            *models[1:]]}
           for n, v in RUNTIMES.items() if n in ModelRuntime.model_fields},
        "Model.runtime": {"models": [{**models[0], "runtime": {}}, *models[1:]]},
        # A scorer cuts texts at its context: its own test stands below.
        **{f"Serving.{n}": {"resources": {"engines": {n: v}} if n == "context"
                            else {"engines": {n: v}, "scorers": {n: v}}}
           for n, v in SERVING.items()},
        "Resources.trainers": {"resources": {"trainers": 3}},
        "Resources.max_gpu_hours": {"resources": {"max_gpu_hours": 5}},
        "Resources.max_cpu_hours": {"resources": {"max_cpu_hours": 5}},
        "Spec.keep": {"keep": "none"},
        "Model.trust_remote_code": {"models": trusting},
        "Scorer.trust_remote_code": {"scorer": {**scorer, "trust_remote_code": True}},
        "Scorer.allow_chance": {"scorer": {**scorer, "allow_chance": True}},
        "Model.family": {"models": [*models[:1], {**models[1], "family": "f"}, *models[2:]]},
        "Model.tokens": {"models": [*models[:1], {**models[1], "tokens": "2.5T"}, *models[2:]]},
        "Measures.window": {"measures": {"window": 3}},
        "Measures.kl_epsilon": {"measures": {"kl_epsilon": 0.1}},
    }  # fmt: skip
    plain = {"models": models, "scorer": scorer}
    # A path's own tests stand below: there its content is the identity.
    assert set(tried) | {"Model.path", "Scorer.path"} == fields("runtime", *PARTS)
    expected = ids(plan_of(spec_of(**plain)))
    for name, change in tried.items():
        spec = spec_of(**{**plain, **change})
        assert spec != spec_of(**plain), f"{name} is not changed by {change}"
        assert ids(plan_of(spec)) == expected, name


def test_the_length_at_which_a_scorer_cuts_texts_changes_its_id_alone() -> None:
    def probe(context: int) -> tuple[str, str]:
        plan = plan_of(spec_of(resources={"scorers": {"context": context}}))
        return plan.probes["reviews"].probe_id, plan.probes["reviews"].scorer

    plain = plan_of(spec_of()).probes["reviews"]
    assert probe(512) == (plain.probe_id, plain.scorer)
    assert probe(256)[0] == plain.probe_id and probe(256)[1] != plain.scorer


def test_the_default_label_keeps_the_id_of_the_label_that_it_was() -> None:
    source = {"name": "s", "hub": "a/b", "revision": COMMIT}
    assert scorer_id(Scorer(**source), {}) == scorer_id(Scorer(**source, label=1), {})
    assert scorer_id(Scorer(**source), {}) != scorer_id(Scorer(**source, label="positive"), {})


def test_a_folder_is_identified_by_content_not_path() -> None:
    assert folder_start("/a", "content").state_id == folder_start("/b", "content").state_id
    assert folder_start("/a", "content").state_id != folder_start("/a", "other").state_id
    origin = {"content": "c"}
    assert scorer_id(Scorer(path="/a"), origin) == scorer_id(Scorer(path="/b"), origin)
    assert scorer_id(Scorer(path="/a"), origin) != scorer_id(Scorer(path="/a"), {"content": "d"})


def test_names_of_sweeps_and_models_change_no_id() -> None:
    models = [{"name": "other", "init": {"hidden_size": 64, "layers": 1}, "pretrain": [64]}]
    renamed = plan_of(spec_of(sweep="other", models=models))
    assert ids(renamed) == ids(plan_of(spec_of()))


def test_a_wider_grid_keeps_the_states_of_the_narrower(  # a sweep may be changed half-way
) -> None:
    narrow = plan_of(spec_of(seeds=[1], positive=[16], negative=[8, 16]))
    wide = plan_of(spec_of(seeds=[0, 1, 2], positive=[8, 16, 24], negative=[0, 4, 8, 12, 16]))
    assert set(narrow.states) < set(wide.states)


def test_identity_leaves_runtime_out() -> None:
    assert "path" not in identity_of(Scorer(path="/a"))
    assert identity_of(Recipe(lora=Lora(rank=2)))["lora"]["rank"] == 2
    assert identity_of(Recipe())["betas"] == [0.9, 0.95]
