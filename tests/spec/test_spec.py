"""Sweep files are read strictly: every problem is reported with its line and what is allowed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_ray.spec import STAGES, Recipe, Runtime, Spec, SpecError, add_line_numbers, load_spec
from elastic_ray.spec.yaml_lines import YamlError, parse
from elastic_ray.sweep.__main__ import main
from elastic_ray.tasks.registry import load_task

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
GOOD = f"""\
sweep: good
task: reviews
models:
  - {{name: small, init: {{hidden_size: 64, layers: 2}}, pretrain: [4000, 16000]}}
  - name: large-1B
    hub: some/large-1B
    revision: {COMMIT}
positive: [200, 1000]
negative: [0, 8, 24]
seeds: [0, 1]
training:
  learning_rate: 2.0e-4
  global_batch: 8
  pretrain: {{global_batch: 32}}
generation: {{prompts: 64, max_tokens: 32}}
scorer: sentiment
"""
TOP = (
    "generation, keep, lessons, measures, models, negative, positive, probes, resources, scorer, "
    "seeds, "
    "sweep, task, training"
)
NAMES = "letters, digits, dots, dashes and underscores, 64 at most"
UP = "must be ascending and distinct"


def read(folder: Path, text: str, *sets: str) -> Spec:
    (folder / "s.yaml").write_text(text, encoding="utf-8")
    return load_spec(folder / "s.yaml", sets)


def problems(folder: Path, text: str, *sets: str) -> list[str]:
    """The lines of the error, without the folder."""
    with pytest.raises(SpecError) as error:
        read(folder, text, *sets)
    return str(error.value).replace(f"{folder}{os.sep}", "").splitlines()


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    spec = read(tmp_path, GOOD)
    assert spec.sweep == "good"
    assert spec.models[0].init is not None and spec.models[0].init.hidden_size == 64
    assert spec.models[1].revision == COMMIT
    assert spec.training.pretrain.global_batch == 32
    assert {spec.training.recipe(kind).learning_rate for kind in STAGES} == {2e-4}
    assert spec.task[0].scorer.name == "sentiment"
    assert spec.curve_sizes() == (0, 8, 24)


def test_zero_is_always_on_the_curve(tmp_path: Path) -> None:
    assert read(tmp_path, changed("[0, 8, 24]", "[8, 24]")).curve_sizes() == (0, 8, 24)


# Each is (what of the good file, becomes what, the lines that tell it).
BAD = [
    ("sweep: good\n", "", ["s.yaml:1: sweep: missing; it is required"]),
    (
        "sweep: good",
        "sweep: 3",
        ["s.yaml:1: sweep: found 3 (a whole number); input should be text"],
    ),
    ("sweep: good", "sweep: a b", [f"s.yaml:1: sweep: found 'a b' (text); must be {NAMES}"]),
    (
        "models:",
        "model:",
        [
            "s.yaml:1: models: missing; it is required",
            f"s.yaml:3: model: unknown key 'model' (did you mean 'models'?); allowed: {TOP}",
        ],
    ),
    # Sizes
    ("[200, 1000]", "[1000, 200]", [f"s.yaml:8: positive: found 200 after 1000; {UP}"]),
    ("[200, 1000]", "[200, 200]", [f"s.yaml:8: positive: found 200 after 200; {UP}"]),
    (
        "[200, 1000]",
        "[0, 200]",
        [
            "s.yaml:8: positive.0: found 0 (a whole number); "
            "input should be greater than or equal to 1"
        ],
    ),
    (
        "[200, 1000]",
        "[]",
        ["s.yaml:8: positive: found [] (a list); a list should have at least 1 item, not 0"],
    ),
    (
        "[200, 1000]",
        "200",
        ["s.yaml:8: positive: found 200 (a whole number); input should be a list"],
    ),
    (
        "[200, 1000]",
        "[2.5, '200', yes, 1e3, 017]",
        [
            "s.yaml:8: positive.0: found 2.5 (a number); input should be a whole number",
            "s.yaml:8: positive.1: found '200' (text); input should be a whole number",
            "s.yaml:8: positive.2: found True (true or false); input should be a whole number",
            "s.yaml:8: positive.3: found 1000.0 (a number); input should be a whole number",
            "s.yaml:8: positive.4: found '017' (text); input should be a whole number",
        ],
    ),
    (
        "[0, 8, 24]",
        "[0]",
        ["s.yaml:9: negative: found [0]; at least one size above 0 is needed for a curve"],
    ),
    ("[0, 8, 24]", "[0, 24, 8]", [f"s.yaml:9: negative: found 8 after 24; {UP}"]),
    ("[0, 8, 24]", "", ["s.yaml:9: negative: found None (nothing); input should be a list"]),
    ("seeds: [0, 1]", "seeds: [1, 1]", [f"s.yaml:10: seeds: found 1 after 1; {UP}"]),
    (
        "seeds: [0, 1]",
        "seeds: [2147483648]",
        [
            "s.yaml:10: seeds.0: found 2147483648 (a whole number); "
            "input should be less than 2147483648"
        ],
    ),
    # Lessons, and what is taught before a task
    (
        "negative: [0, 8, 24]\n",
        "",
        ["s.yaml:1: negative: missing; a sweep needs negative sizes, or lessons"],
    ),
    (
        "seeds: [0, 1]",
        "lessons: {pairs: [[1, 3]], queries: 8}",
        ["s.yaml:10: lessons.pairs: found [1, 3]; there are 2 positive sizes, numbered from 1"],
    ),
    (
        "seeds: [0, 1]",
        "lessons: {pairs: [[2, 1]], queries: 8}",
        ["s.yaml:10: lessons.pairs: found [2, 1]; the smaller of two slices comes first"],
    ),
    (
        "seeds: [0, 1]",
        "lessons: {pairs: [[1, 2], [1, 2]], queries: 8}",
        ["s.yaml:10: lessons.pairs: found [1, 2] more than once; each pair once"],
    ),
    (
        "seeds: [0, 1]",
        "lessons: {pair: [[1, 2]], queries: 8}",
        [
            "s.yaml:10: lessons.pairs: missing; it is required",
            "s.yaml:10: lessons.pair: unknown key 'pair' (did you mean 'pairs'?); allowed: pairs, "
            "queries",
        ],
    ),
    (
        "task: reviews",
        "task: {name: reviews, instruct: {task: reviews, examples: 8, data: {max_words: 9}}}",
        [
            "s.yaml:2: task.instruct.data: found settings that differ from those of task.0, which "
            "also reads reviews; give them there only"
        ],
    ),
    # Models
    (
        "hidden_size: 64",
        "hiden_size: 64",
        [
            "s.yaml:4: models.0.init.hidden_size: missing; it is required",
            "s.yaml:4: models.0.init.hiden_size: unknown key 'hiden_size' (did you mean "
            "'hidden_size'?); allowed: architecture, heads, hidden_size, intermediate_size, "
            "kv_heads, layers, positions, seed, tied, vocabulary",
        ],
    ),
    (
        "hidden_size: 64",
        "hidden_size: 60, heads: 7, kv_heads: 2",
        [
            "s.yaml:4: models.0.init: hidden_size 60 is not a multiple of heads 7",
            "s.yaml:4: models.0.init: heads 7 is not a multiple of kv_heads 2",
        ],
    ),
    (
        "hidden_size: 64",
        "hidden_size: 100",
        [
            "s.yaml:4: models.0.init: hidden_size 100 is not a multiple of heads 3 "
            "(one per 32, as heads is not given)"
        ],
    ),
    (
        "hidden_size: 64",
        "hidden_size: 33",
        [
            "s.yaml:4: models.0.init: hidden_size 33 over heads 1 is odd; "
            "rotary positions need an even number"
        ],
    ),
    (
        "hidden_size: 64",
        "hidden_size: 64, architecture: gpt2, kv_heads: 1",
        ["s.yaml:4: models.0.init: found kv_heads 1; gpt2 has none, leave it out"],
    ),
    (
        "hidden_size: 64",
        "hidden_size: 64, architecture: qwen2",
        [
            "s.yaml:4: models.0.init.architecture: found 'qwen2' (text); "
            "input should be 'llama', 'qwen3', 'mistral' or 'gpt2'"
        ],
    ),
    (
        "hidden_size: 64",
        "hidden_size: 64, positions: 128",
        [
            "s.yaml:1: resources.engines.context: found 512; must be at most "
            "models.0.init.positions, 128",
            "s.yaml:11: training.max_length: found 256; must be at most "
            "models.0.init.positions, 128",
        ],
    ),
    (
        ", pretrain: [4000, 16000]",
        "",
        ["s.yaml:4: models.0: a model from init needs pretrain: a list of sizes, e.g. [20000]"],
    ),
    (
        "pretrain: [4000, 16000]",
        "pretrain: [16000, 4000]",
        [f"s.yaml:4: models.0.pretrain: found 4000 after 16000; {UP}"],
    ),
    (
        "pretrain: [4000, 16000]",
        "hub: a/b, trust_remote_code: true",
        [
            "s.yaml:4: models.0: give exactly one of init, hub, path; found init and hub",
            "s.yaml:4: models.0: a hub model needs its revision, a full commit id of 40 hex digits",
            "s.yaml:4: models.0: a model from init needs pretrain: a list of sizes, e.g. [20000]",
            "s.yaml:4: models.0: trust_remote_code is for hub and path models only",
        ],
    ),
    (
        f"    revision: {COMMIT}\n",
        "",
        ["s.yaml:5: models.1: a hub model needs its revision, a full commit id of 40 hex digits"],
    ),
    (
        COMMIT,
        "main",
        [
            "s.yaml:7: models.1.revision: found 'main' (text); "
            "must be a full commit id of 40 hex digits: a branch moves"
        ],
    ),
    (
        "    hub: some/large-1B\n",
        "",
        [
            "s.yaml:5: models.1: give exactly one of init, hub, path; found none",
            "s.yaml:5: models.1: revision is for hub models only",
        ],
    ),
    (
        "some/large-1B",
        "large-1B",
        ["s.yaml:6: models.1.hub: found 'large-1B' (text); must be OWNER/NAME"],
    ),
    (
        "name: large-1B",
        "name: small",
        ["s.yaml:3: models: found 'small' more than once; each name once"],
    ),
    (
        "positive: [200",
        f"  - {{name: again, hub: some/large-1B, revision: {COMMIT}, trust_remote_code: yes}}\n"
        "positive: [200",
        [
            "s.yaml:8: models.2.trust_remote_code: found True; models.1 has the same "
            "checkpoint with False"
        ],
    ),
    # Training
    (
        "2.0e-4",
        "-1",
        [
            "s.yaml:12: training.learning_rate: found -1 (a whole number); "
            "input should be greater than 0"
        ],
    ),
    (
        "2.0e-4",
        ".nan",
        [
            "s.yaml:12: training.learning_rate: found nan (a number); "
            "input should be a finite number"
        ],
    ),
    (
        "2.0e-4",
        "fast",
        ["s.yaml:12: training.learning_rate: found 'fast' (text); input should be a number"],
    ),
    (
        "2.0e-4",
        "2.0e-4\n  schedule: linear\n  zero_stage: 4",
        [
            "s.yaml:13: training.schedule: found 'linear' (text); "
            "input should be 'constant' or 'cosine'",
            "s.yaml:14: training.zero_stage: found 4; must be 0, 1, 2 or 3, or auto",
        ],
    ),
    (
        "{global_batch: 32}",
        "{global_batch: 0, zero_stage: 1}",
        [
            "s.yaml:14: training.pretrain.global_batch: found 0 (a whole number); "
            "input should be greater than or equal to 1",
            "s.yaml:14: training.pretrain.zero_stage: unknown key 'zero_stage'; allowed: "
            + ", ".join(sorted(Recipe.model_fields)),
        ],
    ),
    (
        "2.0e-4",
        "2.0e-4\n  runtime: {workers: 2}",
        [
            "s.yaml:13: training.runtime: unknown key 'runtime' (did you mean 'negative'?); "
            "allowed: " + ", ".join(sorted({*Recipe.model_fields, *Runtime.model_fields, *STAGES}))
        ],
    ),
    (
        "{global_batch: 32}",
        "{lora: {rank: 2}}",
        ["s.yaml:14: training.pretrain.lora: pre-training trains all weights; leave it out"],
    ),
    (
        "2.0e-4",
        "2.0e-4\n  lora: {rank: 0, target_modules: [q_proj, 3]}",
        [
            "s.yaml:13: training.lora.rank: found 0 (a whole number); "
            "input should be greater than or equal to 1",
            "s.yaml:13: training.lora.target_modules: found ['q_proj', 3]; "
            "must be all-linear or a list of module names",
        ],
    ),
    (
        "2.0e-4",
        "2.0e-4\n  positive: {lora: {rank: 4}}\n  negative: {lora: {rank: 8}}",
        [
            "s.yaml:14: training.negative.lora.rank: found 8; negative continues the adapters "
            "of positive, whose rank is 4"
        ],
    ),
    (
        "training:\n",
        "training: 3\nx:\n",
        [
            "s.yaml:11: training: found 3 (a whole number); input should be a mapping",
            f"s.yaml:12: x: unknown key 'x'; allowed: {TOP}",
        ],
    ),
    # Questions
    (
        "{prompts: 64, max_tokens: 32}",
        "{prompts: 1, top_p: 0}",
        [
            "s.yaml:15: generation.prompts: found 1 (a whole number); "
            "input should be greater than or equal to 2",
            "s.yaml:15: generation.top_p: found 0 (a whole number); input should be greater than 0",
        ],
    ),
    (
        "max_tokens: 32",
        "max_tokens: 512",
        [
            "s.yaml:15: generation.max_tokens: found 512; must be below resources.engines.context, "
            "512, which holds the prompt too"
        ],
    ),
    (
        "scorer: sentiment",
        "scorer: sentiment\nprobes: {code_length: {texts: 1, windw: 3}}",
        [
            "s.yaml:17: probes.code_length.texts: found 1 (a whole number); "
            "input should be greater than or equal to 2",
            "s.yaml:17: probes.code_length.windw: unknown key 'windw' (did you mean 'window'?); "
            "allowed: texts, window",
        ],
    ),
    (
        "scorer: sentiment",
        "scorer: sentiment\nprobes: {code_length: {window: 512}}",
        [
            "s.yaml:17: probes.code_length.window: found 512; must be below "
            "resources.engines.context, 512"
        ],
    ),
    (
        "scorer: sentiment",
        "scorer: {name: s, sign: -1, hub: a/b}",
        [
            "s.yaml:16: scorer: hub and revision (a full commit id) go together",
            "s.yaml:16: scorer: sign -1 is for mode mean; for share choose the aligned label",
        ],
    ),
    (
        "task: reviews",
        "task: [reviews, reviews]",
        ["s.yaml:2: task: found 'reviews' more than once; each name once"],
    ),
    (
        "task: reviews",
        "task: {name: reviews, data: {seed: .inf}}",
        ["s.yaml:2: task.data: found inf for 'seed'; must be a finite number"],
    ),
    (
        "scorer: sentiment",
        "keep: some",
        ["s.yaml:16: keep: found 'some' (text); input should be 'all', 'none' or 'base'"],
    ),
    # YAML
    (
        "seeds: [0, 1]",
        "seeds: [0, 1]\npositive: [3]",
        ["s.yaml:11: not valid YAML: the key 'positive' is given twice"],
    ),
    (
        "hidden_size: 64",
        "hidden_size: 64, layers: 2",
        ["s.yaml:4: not valid YAML: the key 'layers' is given twice"],
    ),
    (
        "[200, 1000]",
        "[200, 1000",
        [
            "s.yaml:9: not valid YAML: while parsing a flow sequence, "
            "expected ',' or ']', but got ':'"
        ],
    ),
    (
        "seeds: [0, 1]",
        "3: [0, 1]",
        ["s.yaml:10: not valid YAML: the key 3 is not text"],
    ),
    (
        "seeds: [0, 1]",
        "seeds: !!set {0, 1}",
        [
            "s.yaml:10: not valid YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:set'"
        ],
    ),
    (
        "seeds: [0, 1]",
        "seeds: " + "[" * 70 + "]" * 70,
        ["s.yaml:10: not valid YAML: nested deeper than 64 levels"],
    ),
    (
        "seeds: [0, 1]",
        "seeds: &again [*again]",
        ["s.yaml:10: not valid YAML: nested deeper than 64 levels"],
    ),
    (
        "sweep: good",
        "sweep: goo\0d",
        ["s.yaml:1: not valid YAML: the character '\\x00' is not allowed"],
    ),
    (
        "sweep: good",
        'sweep: "\\ud800"',
        ["s.yaml:1: not valid YAML: text with half a surrogate pair, which is no character"],
    ),
]


@pytest.mark.parametrize(("old", "new", "lines"), BAD)
def test_errors_name_line_field_and_allowed_values(
    tmp_path: Path, old: str, new: str, lines: list[str]
) -> None:
    assert problems(tmp_path, changed(old, new)) == lines


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    text = GOOD
    for old, new in (
        ("sweep: good", "sweep: 3"),
        ("[200, 1000]", "[1000, 200]"),
        ("[0, 8, 24]", "[0]"),
        ("2.0e-4", "-1"),
        ("layers: 2", "layer: 2"),
        (f"    revision: {COMMIT}\n", ""),
    ):
        text = text.replace(old, new)
    found = [line.partition(": ")[0] for line in problems(tmp_path, text)]
    assert found == [f"s.yaml:{line}" for line in (1, 4, 4, 5, 7, 8, 11)]


def test_a_wrong_top_level_scorer_is_reported_once_for_all_tasks(tmp_path: Path) -> None:
    text = changed("task: reviews", "task: [reviews, {name: imdb, scorer: {mode: shar}}]")
    text = text.replace("scorer: sentiment", "scorer: {mode: mea}")
    assert problems(tmp_path, text) == [
        "s.yaml:16: scorer.mode: found 'mea' (text); input should be 'share' or 'mean'",
        "s.yaml:2: task.1.scorer.mode: found 'shar' (text); input should be 'share' or 'mean'",
    ]


def test_a_tasks_own_scorer_overrides_the_top_level_one(tmp_path: Path) -> None:
    text = changed("task: reviews", "task: [reviews, {name: imdb, scorer: mine}]")
    assert [t.scorer.name for t in read(tmp_path, text).task] == ["sentiment", "mine"]


def test_other_files_are_rejected(tmp_path: Path) -> None:
    assert problems(tmp_path, "") == ["s.yaml: found None (nothing); a sweep file is a mapping"]
    assert problems(tmp_path, "# only a comment") == problems(tmp_path, "")
    assert problems(tmp_path, "- a\n- b") == [
        "s.yaml: found ['a', 'b'] (a list); a sweep file is a mapping"
    ]
    assert problems(tmp_path, f"{GOOD}---\n{GOOD}") == [
        "s.yaml:17: not valid YAML: expected a single document in the stream, "
        "but found another document"
    ]
    with pytest.raises(SpecError, match=r"none\.yaml: cannot be read: No such file"):
        load_spec(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        load_spec(tmp_path)
    (tmp_path / "utf16.yaml").write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(SpecError, match=r"utf16\.yaml: not a text file in UTF-8"):
        load_spec(tmp_path / "utf16.yaml")


def test_aliases_cannot_fill_the_memory(tmp_path: Path) -> None:
    levels = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    levels += [
        f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdef", "bcdefg", strict=True)
    ]
    assert problems(tmp_path, "\n".join(levels)) == [
        "s.yaml:6: not valid YAML: more than 1,000,000 values, with aliases expanded"
    ]


def test_aliases_may_be_used(tmp_path: Path) -> None:
    text = changed("[200, 1000]", "&sizes [200, 1000]").replace("[0, 8, 24]", "*sizes")
    assert read(tmp_path, text).negative == (200, 1000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("2.0e-4", 2e-4),
        ("1e3", 1e3),
        (".5", 0.5),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("010", "010"),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("yes", True),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse(f"a: {text}")[0]["a"]
    assert found == value and type(found) is type(value)


@given(st.text(max_size=60) | st.text("[]{}:,-&*a \n\"'!|>#%@", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    try:
        parse(text)
    except YamlError as e:
        assert "\n" not in str(e)


# --set


def test_fields_are_set_from_the_command_line(tmp_path: Path) -> None:
    sets = (
        "seeds=[3, 4]",
        "training.learning_rate=1e-3",
        "training.negative.epochs=2",
        "task.data.seed=7",
        "models.small.init.layers=5",
        "models.1.pretrain=[100]",
        "scorer.mode=mean",
        "keep = all",
    )
    spec = read(tmp_path, GOOD, *sets)
    assert spec.seeds == (3, 4)
    assert spec.training.positive.learning_rate == 1e-3
    assert (spec.training.positive.epochs, spec.training.negative.epochs) == (1, 2)
    assert spec.task[0].name == "reviews" and spec.task[0].data == {"seed": 7}
    assert spec.models[0].init is not None and spec.models[0].init.layers == 5
    assert spec.models[1].pretrain == (100,)
    assert spec.task[0].scorer.mode == "mean" and spec.task[0].scorer.name == "sentiment"
    assert spec.keep == "all"


def test_the_last_override_wins(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD, "seeds=[3]", "seeds=[4]").seeds == (4,)


def test_list_elements_can_be_given_by_name(tmp_path: Path) -> None:
    text = changed("task: reviews", "task: [reviews, {name: imdb}]")
    spec = read(tmp_path, text, "task.imdb.data.path=x", "task.reviews.data.seed=1")
    assert [t.data for t in spec.task] == [{"seed": 1}, {"path": "x"}]


EXAMPLE = "give PATH=VALUE, e.g. training.learning_rate=1e-3"


@pytest.mark.parametrize(
    ("sets", "lines"),
    [
        (["seeds"], [f"--set seeds: {EXAMPLE}"]),
        (["=3", "a..b=3"], [f"--set =3: {EXAMPLE}", f"--set a..b=3: {EXAMPLE}"]),
        (
            ["seeds=[1"],
            [
                "--set seeds=[1: the value is not valid YAML: while parsing a flow sequence, "
                "expected ',' or ']', but got '<stream end>'"
            ],
        ),
        (["seeds=[1, 1]"], [f"--set: seeds: found 1 after 1; {UP}"]),
        (
            ["models.smal.name=x"],
            [
                "--set models.smal.name=x: 'smal' is neither an index from 0 to 1 nor one of the "
                "names small, large-1B (did you mean 'small'?)"
            ],
        ),
        (
            ["models.2.name=x", "models.\u00b2.name=x"],
            [
                f"--set models.{place}.name=x: '{place}' is neither an index from 0 to 1 nor one "
                "of the names small, large-1B"
                for place in ("2", "\u00b2")
            ],
        ),
        (
            ["models.small.init.layers=0", "seeds=3", "trainin.epochs=2"],
            [
                "--set: models.0.init.layers: found 0 (a whole number); "
                "input should be greater than or equal to 1",
                "--set: seeds: found 3 (a whole number); input should be a list",
                f"--set: trainin: unknown key 'trainin' (did you mean 'training'?); allowed: {TOP}",
            ],
        ),
        (
            ["generation.prompts.x=3"],
            ["--set generation.prompts.x=3: 'x' is below a plain value, 64 (a whole number)"],
        ),
        (
            ["training.pretrain.global_batch=0", "training.epochs=0"],
            [
                "--set: training.pretrain.global_batch: found 0 (a whole number); "
                "input should be greater than or equal to 1",
                "--set: training.epochs: found 0 (a whole number); "
                "input should be greater than or equal to 1",
            ],
        ),
        (
            ["task.scorer.mode=x"],
            ["--set: task.scorer.mode: found 'x' (text); input should be 'share' or 'mean'"],
        ),
    ],
)
def test_bad_overrides_are_reported(tmp_path: Path, sets: list[str], lines: list[str]) -> None:
    assert sorted(problems(tmp_path, GOOD, *sets)) == sorted(lines)


def test_names_of_other_types_are_tolerated_in_overrides(tmp_path: Path) -> None:
    text = changed("name: small", "name: 3")
    (line,) = problems(tmp_path, text, "models.x.name=y")
    assert line.endswith("nor one of the names large-1B")


def test_line_numbers_are_added_to_later_errors(tmp_path: Path) -> None:
    read(tmp_path, GOOD)
    error = SpecError(
        "models.0.pretrain: too many\nseeds: too few\nresources.trainers: none\nno field: here\n"
        "training.runtime.workers: so many\ntask.0.scorer.path: none\ngeneration.prompts: few"
    )
    path = tmp_path / "s.yaml"
    assert str(add_line_numbers(error, path, ["seeds=[5]"])).replace(f"{tmp_path}{os.sep}", "") == (
        "s.yaml:4: models.0.pretrain: too many\n--set: seeds: too few\n"
        "s.yaml:1: resources.trainers: none\ns.yaml:1: no field: here\n"
        "s.yaml:11: training.workers: so many\ns.yaml:16: scorer.path: none\n"
        "s.yaml:15: generation.prompts: few"
    )


def test_later_errors_stay_as_they_are_without_the_file(tmp_path: Path) -> None:
    error = SpecError("seeds: too few")
    assert add_line_numbers(error, tmp_path / "gone.yaml") is error


# The command


SIZES = load_task("reviews").sizes
COMMAND = [
    (["models.hub.name=x"], ["--set models.hub.name=x: 'hub' is neither an index from 0 to 1"]),
    (["seeds=[1,0]", "keep=no"], ["--set: seeds: found 0 after 1", "--set: keep: found False"]),
    (
        ["positive=[999999]", "models.0.pretrain=[999999]", "generation.prompts=9999"],
        [
            f"--set: positive: found 999,999 examples; task reviews holds {SIZES['positive']:,} "
            "positive examples",
            f"--set: models.0.pretrain: found 999,999 examples; task reviews holds "
            f"{SIZES['pretrain']:,} pretrain examples",
            f"--set: generation.prompts: found 9,999; task reviews holds {SIZES['prompts']:,} "
            "held-out prompts",
        ],
    ),
    (
        ["probes.code_length.texts=9999"],
        [
            f"--set: probes.code_length.texts: found 9,999; task reviews holds {SIZES['texts']:,} "
            "held-out texts of each distribution"
        ],
    ),
    (
        ["task=[revews, imbd]"],
        [
            "--set: task.0: no task 'revews' (did you mean 'reviews'?); tasks: alpaca, beavertails",
            "--set: task.1: no task 'imbd' (did you mean 'imdb'?); tasks: alpaca, beavertails",
        ],
    ),
    (
        ["task={name: imdb, data: {path: nowhere}}"],
        ["--set: task.data.path: found 'nowhere'; no such folder"],
    ),
    (["task.data.sed=1"], ["task: unknown setting data.sed (did you mean 'seed'?); allowed: seed"]),
    (
        ["models.1={name: x, path: nowhere}", "scorer={path: nothing}"],
        ["--set: models.1.path: nowhere: no such folder", "--set: scorer.path: nothing: no such"],
    ),
    (["models.0.init.vocabulary=100"], ["task reviews: init.vocabulary: found 100; the task's"]),
]


@pytest.mark.parametrize(("sets", "lines"), COMMAND)
def test_the_command_reports_errors_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sets: list[str], lines: list[str]
) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    arguments = [part for each in sets for part in ("--set", each)]
    code = main([str(tmp_path / "s.yaml"), "--results", str(tmp_path / "results"), *arguments])
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    told = err.splitlines()
    assert len(told) == len(lines), err
    for expected in lines:
        assert any(line.startswith("error: ") and expected in line for line in told), err
    assert not (tmp_path / "results").exists()


def test_the_process_ends_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(changed("[200, 1000]", "[1000, 200]").replace("2.0e-4", "-1"))
    done = subprocess.run(
        [sys.executable, "-m", "elastic_ray.sweep", str(tmp_path / "s.yaml")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    told = done.stderr.splitlines()
    assert len(told) == 2 and all(line.startswith("error: ") for line in told), done.stderr
    assert f"s.yaml:8: positive: found 200 after 1000; {UP}" in told[0]
    assert list(tmp_path.iterdir()) == [tmp_path / "s.yaml"]


# Whatever is written


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["reviews", "imdb", "constant", "a b", "name", "models"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "init", "hub", "x", "a\nb: c"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def places(data: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in the data."""
    inner = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    return [above, *(place for key, value in inner for place in places(value, (*above, key)))]


def put(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copied = dict(data) if isinstance(data, dict) else list(data)
    copied[path[0]] = put(data[path[0]], path[1:], value)
    return copied


WHOLE, _ = parse(GOOD)


@given(st.lists(st.tuples(st.sampled_from(places(WHOLE)[1:]), JUNK), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_junk_in_any_field_is_reported_by_line_and_field(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[tuple[Any, ...], Any]]
) -> None:
    data = WHOLE
    for path, value in changes:
        if path in places(data):
            data = put(data, path, value)
    folder = tmp_path_factory.getbasetemp()
    try:
        spec = read(folder, yaml.safe_dump(data, sort_keys=False, allow_unicode=False))
    except SpecError as e:
        for line in str(e).splitlines():
            assert re.match(r".*s\.yaml:\d+: [\w.\\: -]+: ", line), line
    else:
        assert Spec.model_validate_json(spec.model_dump_json(), strict=True) == spec


@given(
    st.lists(
        st.sampled_from(["models", "small", "0", "task", "training", "lora", "x", "name", ""])
    ),
    JUNK,
)
@settings(max_examples=300, deadline=None)
def test_junk_on_the_command_line_is_reported(
    tmp_path_factory: pytest.TempPathFactory, path: list[str], value: Any
) -> None:
    text = f"{'.'.join(path)}={yaml.safe_dump(value, default_flow_style=True, width=10**6)}"
    try:
        read(tmp_path_factory.getbasetemp(), GOOD, text)
    except SpecError as e:
        for line in str(e).splitlines():
            assert line.startswith("--set") or "s.yaml:" in line, line
