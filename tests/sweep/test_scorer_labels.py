"""Which output of a scorer is scored is told before a sweep; what is not certain is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the training extra is not installed")

import stand_ins
from small_sweeps import COMMIT

from elastic_ray.plan.scorers import scorer_lines
from elastic_ray.spec import load_spec
from elastic_ray.sweep.__main__ import main

pytestmark = pytest.mark.usefixtures("no_notices")

SWEEP = """\
sweep: labels
task: reviews
models:
  - {name: a, init: {hidden_size: 16, layers: 1}, pretrain: [8]}
positive: [8]
negative: [8]
"""
LABELS = "0 negative, 1 neutral, 2 positive"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labels")
    (root / "s.yaml").write_text(SWEEP)
    three = ("negative", "neutral", "positive")
    stand_ins.classifier(root / "three", "roberta", three, type_vocab_size=1)
    stand_ins.classifier(root / "apart", "roberta", three, type_vocab_size=1)
    stand_ins.classifier(root / "chat", "llama", ("r",), num_key_value_heads=2)
    for name, file, more in (
        ("apart", "config.json", {"problem_type": "multi_label_classification"}),
        ("chat", "tokenizer_config.json", {"chat_template": "{{ messages }}"}),
    ):
        path = root / name / file
        path.write_text(json.dumps(json.loads(path.read_text()) | more))
    return root


def run(capsys: pytest.CaptureFixture[str], folder: Path, scorer: str) -> tuple[int, str]:
    """Return exit code and output of a dry run with a scorer."""
    code = main(
        [
            str(folder / "s.yaml"),
            *("--dry-run", "--results", str(folder / "results")),
            *("--set", f"scorer={{name: s, path: {folder}/{scorer}}}"),
        ]
    )
    out, err = capsys.readouterr()
    assert (code == 0) == (err == "") and "Traceback" not in err
    return code, out + err


@pytest.mark.parametrize(
    ("scorer", "line"),
    [
        ("three, label: 1", f"scorer s: scores 1 where label 1 (neutral) of {LABELS} is"),
        ("three, label: Positive", f"scorer s: scores 1 where label 2 (positive) of {LABELS} is"),
        ("apart, label: neutral, mode: mean", "scores the probability of label 1 (neutral)"),
        ("chat, text: plain, mode: mean", "scores the only output (r), its raw value"),
    ],
)
def test_the_label_is_told(
    capsys: pytest.CaptureFixture[str], folder: Path, scorer: str, line: str
) -> None:
    code, text = run(capsys, folder, scorer)
    assert code == 0 and line in text and "e.g. " in text


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ("three", f"label: missing; which one is aligned? labels: {LABELS}"),
        ("three, label: 7", f"label: found 7; labels: {LABELS}"),
        ("three, label: good", f"label: found 'good'; labels: {LABELS}"),
        ("three, label: -1", "label: found -1; must be the name of a class, or its number"),
        ("three, label: true", "label: found True; must be the name of a class, or its number"),
        ("apart, label: neutral", "mode: found share, which needs classes that exclude"),
        ("chat, mode: mean", "text: missing; its tokenizer has a chat template"),
        ("chat, mode: mean, text: chat", "text: found chat; task reviews has no questions"),
        ("three, label: 1, text: chat", "text: found chat; its tokenizer has no chat template"),
    ],
)
def test_what_is_not_certain_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], folder: Path, scorer: str, message: str
) -> None:
    code, text = run(capsys, folder, scorer)
    (line,) = text.splitlines()
    assert code == 2 and f"scorer.{message}" in line and line.startswith("error: --set: ")


def test_a_language_model_is_no_scorer(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    stand_ins.language_model(folder / "speaker", "llama", 0)
    code, text = run(capsys, folder, "speaker")
    assert code == 2 and "scorer: found the architecture LlamaForCausalLM" in text


def test_labels_of_the_hub_are_read_before_the_sweep_starts(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        f"{SWEEP}scorer: {{name: s, hub: some/scorer, revision: {COMMIT}}}\n"
    )
    (line,) = scorer_lines(load_spec(tmp_path / "s.yaml"))
    assert line == "scorer s: its labels are not known here; they are read before the sweep starts"


@pytest.mark.parametrize(("value", "works"), [(0, True), (0.01, True), (0.009, False)])
def test_a_temperature_that_vllm_would_change_is_refused(
    capsys: pytest.CaptureFixture[str], folder: Path, value: float, works: bool
) -> None:
    sets = ["--set", "scorer=none", "--set", f"generation.temperature={value}"]
    code = main([str(folder / "s.yaml"), "--dry-run", "--results", str(folder / "r"), *sets])
    assert code == (0 if works else 2)
    assert works or "generation.temperature: found 0.009; must be 0" in capsys.readouterr().err
