"""The JSON Schema of sweep files: it accepts the files people write and rejects mistakes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from elastic_ray.spec import Spec, SpecError, json_schema, load_spec
from elastic_ray.spec.yaml_lines import parse

jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
PUBLISHED = ROOT / "docs" / "sweep.schema.json"
POINTER = "# yaml-language-server: $schema=../docs/sweep.schema.json\n"


def data_of(path: Path) -> dict[str, Any]:
    data, _ = parse(path.read_text(encoding="utf-8"))
    return dict(data)


def errors(data: object) -> list[str]:
    validator = jsonschema.Draft202012Validator(json_schema())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(data)]


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(dotted name, schema) of every field of every mapping with named fields."""
    for name, part in {"sweep file": schema, **schema["$defs"]}.items():
        assert part["additionalProperties"] is False, name
        for field, value in part["properties"].items():
            yield f"{name}.{field}", value


def test_it_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_shipped_sweep_fits(path: Path) -> None:
    assert errors(data_of(path)) == []


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_shipped_sweep_names_the_schema(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith(POINTER)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "imdb"},
        {"task": {"name": "imdb", "scorer": "none"}},
        {"task": ["imdb", {"name": "reviews", "data": {"seed": 3}, "scorer": {"mode": "mean"}}]},
        {"scorer": "none"},
        {"scorer": {"name": "cost", "path": "scorers/cost"}},
        {"training": {"epochs": 2, "workers": "auto", "negative": {"learning_rate": 1}}},
        {"training": {"workers": [1, 4], "lora": {"rank": 4}, "pretrain": {"warmup_steps": 3}}},
        {"probes": {"code_length": {}}},
    ],
)
def test_short_forms_fit_as_the_loader_reads_them(changes: dict[str, Any], tmp_path: Path) -> None:
    data = {**data_of(ROOT / "sweeps" / "tiny.yaml"), **changes}
    assert errors(data) == []
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(data), encoding="utf-8")  # JSON is YAML
    load_spec(file)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("positve",), [8]),
        (("models", 0, "init", "hiden_size"), 64),
        (("training", "learning_rat"), 1e-3),
        (("training", "pretrain", "workers"), 2),
        (("training", "runtime"), {"workers": 2}),
        (("task",), {"name": "reviews", "scorers": "none"}),
        (("sweep",), 3),
        (("positive",), "200"),
        (("positive", 0), 2.5),
        (("models", 0, "init", "architecture"), "qwen2"),
        (("training", "learning_rate"), "fast"),
        (("training", "zero_stage"), 4),
        (("scorer",), 3),
        (("task",), []),
        (("keep",), True),
    ],
)
def test_misspelt_fields_and_wrong_types_do_not_fit(
    path: tuple[str | int, ...], value: object, tmp_path: Path
) -> None:
    data = copy.deepcopy(data_of(ROOT / "sweeps" / "tiny.yaml"))
    *parents, last = path
    target: Any = data
    for step in parents:
        target = target[step]
    target[last] = value
    assert errors(data)
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(SpecError):
        load_spec(file)


def test_required_fields_are_required() -> None:
    assert len(errors({})) == 4


def test_every_field_has_a_title_and_a_description() -> None:
    every = dict(fields(json_schema()))
    assert [name for name, value in every.items() if not value.get("description")] == []
    assert [name for name, value in every.items() if not value.get("title")] == []


def test_every_field_of_the_spec_is_in_the_schema() -> None:
    """Of each class: only the flat `training:` differs, and the top-level scorer is added."""
    nested, written = Spec.model_json_schema(), json_schema()
    for name in nested["$defs"].keys() - {"Training", "Runtime"}:
        assert nested["$defs"][name]["properties"].keys() == (
            written["$defs"][name]["properties"].keys()
        )
    assert written["properties"].keys() == nested["properties"].keys() | {"scorer"}
    flat = {
        *nested["$defs"]["Recipe"]["properties"],
        *nested["$defs"]["Runtime"]["properties"],
        *nested["$defs"]["Training"]["properties"],
    }
    assert set(written["$defs"]["Training"]["properties"]) == flat - {"runtime"}


def test_the_published_schema_is_current() -> None:
    expected = json.dumps(json_schema(), indent=2, sort_keys=True) + "\n"
    assert PUBLISHED.read_text(encoding="utf-8") == expected, (
        "write it anew: elastic-ray schema > docs/sweep.schema.json"
    )
