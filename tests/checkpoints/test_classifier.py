"""What a classifier's outputs mean is read from its configuration, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_ray.checkpoints.classifier import (
    ClassifierError,
    Outputs,
    chat_template,
    describe,
    read_config,
    read_outputs,
    scored_output,
)


def config(*labels: str, **more: Any) -> dict[str, Any]:
    named = {"id2label": {str(i): name for i, name in enumerate(labels)}} if labels else {}
    return {"architectures": ["BertForSequenceClassification"], **named, **more}


MULTI, REGRESSION = "multi_label_classification", "regression"


@pytest.mark.parametrize(
    ("found", "labels", "activation"),
    [
        (config(), ("LABEL_0", "LABEL_1"), "softmax"),
        (config(num_labels=3), ("LABEL_0", "LABEL_1", "LABEL_2"), "softmax"),
        (config("a", "b", problem_type="single_label_classification"), ("a", "b"), "softmax"),
        (config("a", "b", problem_type=MULTI), ("a", "b"), "sigmoid"),
        (config("a", problem_type=MULTI), ("a",), "sigmoid"),
        (config("x", "y", problem_type=REGRESSION), ("x", "y"), "none"),
        (config("r"), ("r",), "none"),
        (
            {"architectures": ["LlamaForScore"], "id2label": {"0": "a", "1": "b"}},
            ("score",),
            "none",
        ),
    ],
)
def test_outputs_are_those_of_the_configuration(
    found: dict[str, Any], labels: tuple[str, ...], activation: str
) -> None:
    assert read_outputs(found) == Outputs(labels, activation)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "found the architecture LlamaForCausalLM"),
        (config(num_labels=0), "num_labels: found 0"),
        ({"id2label": {"1": "a", "2": "b"}}, "does not number its labels from 0"),
        ({"id2label": ["a"]}, "id2label is not a mapping"),
        (config("a", "b", problem_type="ranking"), "problem_type: found 'ranking'"),
    ],
)
def test_what_is_no_classifier_is_refused(found: dict[str, Any], message: str) -> None:
    with pytest.raises(ClassifierError, match=message):
        read_outputs(found)


THREE = Outputs(("negative", "neutral", "Positive"), "softmax")
TWO = Outputs(("NEGATIVE", "POSITIVE"), "softmax")


@pytest.mark.parametrize(
    ("outputs", "label", "index"),
    [
        (TWO, None, 1),
        (TWO, 0, 0),
        (THREE, 1, 1),
        (THREE, "positive", 2),
        (THREE, "Positive", 2),
        (Outputs(("a", "A"), "softmax"), "A", 1),
        (Outputs(("r",), "none"), None, 0),
    ],
)
def test_the_scored_output_is_named_or_certain(
    outputs: Outputs, label: int | str | None, index: int
) -> None:
    assert scored_output(outputs, label, "mean") == index


@pytest.mark.parametrize(
    ("outputs", "label", "mode", "message"),
    [
        (THREE, None, "share", "label: missing.* 0 negative, 1 neutral, 2 Positive"),
        (Outputs(("LABEL_0", "LABEL_1"), "softmax"), None, "share", "label: missing"),
        (Outputs(("positive", "negative"), "softmax"), None, "share", "label: missing"),
        (Outputs(("safe", "unsafe"), "softmax"), None, "mean", "label: missing"),
        (THREE, 7, "share", "label: found 7; labels: 0 negative, 1 neutral, 2 Positive"),
        (THREE, "positiv", "share", "label: found 'positiv'"),
        (Outputs(("r",), "none"), 1, "mean", "label: found 1; labels: 0 r"),
        (Outputs(("Aa", "aA"), "softmax"), "aa", "mean", "not unique"),
        (Outputs(("a", "b"), "sigmoid"), "a", "share", "mode: found share"),
        (Outputs(("a", "b"), "none"), "a", "share", "mode: found share"),
    ],
)
def test_what_is_not_certain_is_refused(
    outputs: Outputs, label: int | str | None, mode: str, message: str
) -> None:
    with pytest.raises(ClassifierError, match=message) as refused:
        scored_output(outputs, label, mode)
    assert "\n" not in str(refused.value)


def test_what_is_scored_is_told_with_an_example() -> None:
    assert describe(THREE, 2, "share", 1) == (
        "1 where label 2 (Positive) of 0 negative, 1 neutral, 2 Positive is the likeliest, "
        "e.g. Positive -> 1, negative -> 0"
    )
    assert describe(TWO, 0, "mean", -1) == (
        "-the probability of label 0 (NEGATIVE) of 0 NEGATIVE, 1 POSITIVE, "
        "e.g. 0.7 NEGATIVE -> -0.7"
    )
    score = Outputs(("score",), "none")
    assert describe(score, 0, "mean", -1) == (
        "-the only output (score), its raw value, e.g. 1.7 -> -1.7"
    )
    assert describe(score, 0, "share", -1) == (
        "1 where the only output (score) is below 0, e.g. 1.7 -> 0"
    )
    assert describe(Outputs(("toxic",), "sigmoid"), 0, "share", 1) == (
        "1 where the only output (toxic) is above 0, e.g. 1.7 -> 1"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
NAMES = st.sampled_from(["negative", "positive", "neutral", "LABEL_0", "a\nb", ""])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "architectures": st.sampled_from([["BertForSequenceClassification"], ["X"], [], None])
            | JSON,
            "id2label": st.dictionaries(st.sampled_from("0123"), NAMES) | JSON,
            "num_labels": st.integers(-1, 4) | JSON,
            "problem_type": st.sampled_from([None, MULTI, REGRESSION]) | JSON,
        },
    ),
    st.none() | st.integers(0, 5) | NAMES,
    st.sampled_from(["share", "mean"]),
    st.sampled_from([1, -1]),
)
def test_any_configuration_is_read_or_refused_in_one_line(
    found: dict[str, Any], label: int | str | None, mode: str, sign: int
) -> None:
    try:
        outputs = read_outputs(found)
        index = scored_output(outputs, label, mode)
    except ClassifierError as e:
        assert str(e) and "\n" not in str(e)
        return
    assert 0 <= index < len(outputs.labels)
    assert "\n" not in describe(outputs, index, mode, sign)
    if label is None and outputs.activation == "softmax":
        assert outputs.labels[index].casefold() in ("positive", "pos")


def test_files_are_read_or_refused(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match="no such file"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ClassifierError, match="cannot be read") as refused:
        read_config(tmp_path)
    assert "\n" not in str(refused.value)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ClassifierError, match="holds no mapping"):
        read_config(tmp_path)
    assert not chat_template(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ x }}"}))
    assert chat_template(tmp_path)


def documented() -> list[tuple[str, str, str]]:
    """(what is brought, what share does, what mean does): the table of docs/accepted.md."""
    page = (Path(__file__).parents[2] / "docs" / "accepted.md").read_text(encoding="utf-8")
    _, _, table = page.partition("| What you bring | `mode: share` | `mode: mean` |\n")
    rows = table.partition("\n\n")[0].splitlines()[1:]
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]  # type: ignore[misc]


BROUGHT = {
    "Classes that exclude each other": config("a", "b", "c"),
    "Labels of their own": config("a", "b", problem_type=MULTI),
    "One output": config("r"),
    "Several values": config("x", "y", problem_type=REGRESSION),
    "A score model": {"architectures": ["LlamaForScore"]},
    "No sequence classifier": {"architectures": ["LlamaForCausalLM"]},
}
TOLD = {
    "1 where `label` is the likeliest": "is the likeliest",
    "the probability of `label` (softmax)": "the probability of label 0",
    "the probability of `label` (sigmoid)": "the probability of label 0",
    "1 where `sign` times the value is above 0": "is above 0",
    "`sign` times the value": "its raw value",
    "`sign` times the value of `label`": "output 0 (x) of 0 x, 1 y, its raw value",
}


def test_the_page_of_what_is_accepted_says_what_is_done() -> None:
    rows = documented()
    assert len(rows) == len(BROUGHT)
    for what, *cells in rows:
        (found,) = [each for start, each in BROUGHT.items() if what.startswith(start)]
        for mode, cell in zip(("share", "mean"), cells, strict=True):
            try:
                outputs = read_outputs(found)
                told = describe(outputs, scored_output(outputs, 0, mode), mode, 1)
            except ClassifierError:
                told = "refused"
            if cell == "as one output":
                cell = next(row for row in rows if row[0].startswith("One"))[1 + (mode == "mean")]
            assert TOLD.get(cell, cell) in told, (what, mode)
