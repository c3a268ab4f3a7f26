"""The paper's scorers give what a plain forward pass of transformers gives, text by text.

safe-rlhf's score models are a Llama and a head, the sentiment classifier a RoBERTa. The expected
values are computed here, and share no code with what is tested.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the training extra is not installed")
pytest.importorskip("ray", reason="the training extra is not installed")

import stand_in_data
import stand_ins
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from elastic_ray.serving.engines.score_model import is_score_model, write_as_classifier
from elastic_ray.serving.engines.scorer import make_scorer_backend
from elastic_ray.serving.engines.vllm_runtime import vllm_environment, vllm_unavailable_reason
from elastic_ray.serving.errors import EngineError
from elastic_ray.serving.types import ScorerConfig
from elastic_ray.tasks.dialogue import prompt_of

pytestmark = pytest.mark.integration

torch.set_num_threads(1)  # the models are tiny
ROOT = Path(__file__).parents[2]
LONGEST = 128
NORMALISED = {"do_normalize": True, "mean": [0.7], "var": [2.5]}
TEXTS = [
    prompt_of(stand_in_data.question("train", i))
    + " ".join(stand_in_data.answer(i % 2 == 0, "train", i, k) for k in range(i % 9))
    for i in range(200)
]
"""They have from 20 to more than 128 tokens."""
LABELS = {"apart": 0, "decoder": 1}
"""Scorers whose label is not certain -> one whose probability differs from text to text."""


def backend(folder: Path, kind: str) -> ScorerConfig:
    sign = -1 if folder.name == "cost" else 1
    label = LABELS.get(folder.name)
    return ScorerConfig(
        folder.name, kind, str(folder), None, "mean", label, sign, max_model_len=LONGEST
    )


def reference(folder: Path, scale: float = 1.0, shift: float = 0.0) -> list[float]:
    """(score + shift) / scale of each text, one text at a time, as safe-rlhf computes it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    held = load_file(folder / "model.safetensors")
    body = AutoModel.from_pretrained(folder).eval()
    own = {name.removeprefix("model."): w for name, w in held.items() if name.startswith("model.")}
    body.load_state_dict(own)
    found = []
    for text in TEXTS:
        ids = [*tokenizer(text).input_ids[: LONGEST - 1], tokenizer.eos_token_id]
        with torch.inference_mode():
            hidden = body(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
            raw = hidden @ held["score_head.weight"][0] + held["score_head.bias"][0]
        found.append((float(raw) + shift) / scale)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_ins.cost(tmp_path_factory.mktemp("scorers") / "cost")


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[float]:
    found = reference(folder)
    assert max(found) - min(found) > 1, "the costs of the texts differ"
    return found


@pytest.fixture(scope="module")
def sentiment(folder: Path) -> Path:
    return stand_ins.sentiment(folder.parent / "sentiment")


@pytest.fixture(scope="module")
def apart(folder: Path) -> Path:
    """Labels that do not exclude each other."""
    more = {"type_vocab_size": 1, "problem_type": "multi_label_classification"}
    return stand_ins.classifier(folder.parent / "apart", "roberta", ("a", "b", "c"), **more)


@pytest.fixture(scope="module")
def decoder(folder: Path) -> Path:
    """Three classes, read at the last token that is not the padding token, the end token too."""
    where = folder.parent / "decoder"
    return stand_ins.classifier(where, "llama", ("a", "b", "c"), num_key_value_heads=2)


def probabilities(folder: Path) -> list[float]:
    """The probability of the scored label of each text, one text at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    found = []
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=LONGEST, return_tensors="pt").input_ids
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0]
        values = logits.sigmoid() if folder.name == "apart" else logits.softmax(-1)
        found.append(float(values[LABELS.get(folder.name, 1)]))
    return found


def lengths(folder: Path) -> set[int]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return {len(ids) for ids in tokenizer(TEXTS).input_ids}


@pytest.fixture(scope="module")
def vllm_scores(
    folder: Path, sentiment: Path, apart: Path, decoder: Path
) -> dict[str, dict[str, list[float]]]:
    """vLLM's scores of the texts by scorer: all at once, in small batches of mixed lengths, and
    one at a time."""
    if vllm_unavailable_reason() is not None:
        pytest.skip(f"vLLM is not available: {vllm_unavailable_reason()}")
    code = f"""
import asyncio, json, sys
from pathlib import Path
sys.path[:0] = {[str(ROOT), str(ROOT / "tests" / "support"), str(Path(__file__).parent)]}

async def score(folder):
    from test_scorers import TEXTS, backend
    from elastic_ray.serving.engines.scorer import make_scorer_backend
    scorer = make_scorer_backend(backend(folder, "vllm"))
    assert scorer.version.startswith("vllm ")
    together = [s.score for s in await scorer.score(TEXTS)]
    mixed = [0.0] * len(TEXTS)
    for i in range(23):
        mixed[i::23] = [s.score for s in await scorer.score(TEXTS[i::23])]
    alone = [s.score for text in TEXTS[:20] for s in await scorer.score([text])]
    await scorer.close()
    return {{"together": together, "mixed": mixed, "alone": alone}}

if __name__ == "__main__":
    found = {{name: asyncio.run(score(Path(name))) for name in sys.argv[1:]}}
    print("found:" + json.dumps(found))
"""
    script = folder.parent / "served.py"
    script.write_text(code)
    environment = {**os.environ, **vllm_environment(backend(folder, "vllm"), threads=1)}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, (folder, sentiment, apart, decoder))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("found:")]
    assert done.returncode == 0 and lines, done.stderr[-3000:]
    return dict(json.loads(lines[-1].removeprefix("found:")))


def test_vllm_equals_a_plain_forward_pass(
    vllm_scores: dict[str, dict[str, list[float]]],
    expected: list[float],
    folder: Path,
    sentiment: Path,
    apart: Path,
    decoder: Path,
) -> None:
    """For any batch and any length of text. The score of a cost model is minus the cost."""
    wanted = {folder: [-x for x in expected]}
    wanted |= {each: probabilities(each) for each in (sentiment, apart, decoder)}
    for place, values in wanted.items():
        known = lengths(place)
        assert len(known) > 20 and min(known) < 40 and max(known) > LONGEST, "lengths vary"
        assert max(values) - min(values) > 0.1, "scores vary"
        for name, scores in vllm_scores[str(place)].items():
            assert scores == pytest.approx(values[: len(scores)], abs=1e-4), (place.name, name)


def test_transformers_equals_a_plain_forward_pass(folder: Path, expected: list[float]) -> None:
    scores = asyncio.run(make_scorer_backend(backend(folder, "transformers")).score(TEXTS))
    assert [s.score for s in scores] == pytest.approx([-x for x in expected], abs=1e-4)
    assert {s.probability for s in scores} == {None}


@pytest.mark.parametrize(
    ("kind", "shift"), [("cost", 0.0), ("reward", -0.7)], ids=["cost", "reward"]
)
def test_the_normalisation_of_scores_is_applied(kind: str, shift: float, tmp_path: Path) -> None:
    """safe-rlhf scales costs; from rewards it first subtracts the mean."""
    place = stand_ins.cost(tmp_path, score_type=kind, **NORMALISED)
    scores = asyncio.run(make_scorer_backend(backend(place, "transformers")).score(TEXTS[:20]))
    plain = reference(place, scale=2.5**0.5 + 1e-8, shift=shift)[:20]
    assert [s.score for s in scores] == pytest.approx(plain, abs=1e-4)


def test_a_score_model_is_written_as_a_classifier(folder: Path, tmp_path: Path) -> None:
    """Files without tensors of the head are linked, not copied."""
    split = tmp_path / "split"
    split.mkdir()
    held = load_file(folder / "model.safetensors")
    body = {name: w for name, w in held.items() if "layers.0" in name}
    rest = {name: w for name, w in held.items() if name not in body}
    save_file(body, split / "model-00001-of-00002.safetensors")
    save_file(rest, split / "model-00002-of-00002.safetensors")
    places = {name: f"model-0000{1 if name in body else 2}-of-00002.safetensors" for name in held}
    (split / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (split / name).write_bytes((folder / name).read_bytes())
    made = tmp_path / "made"
    made.mkdir()
    write_as_classifier(split, made)
    assert (made / "model-00001-of-00002.safetensors").is_symlink()
    index = json.loads((made / "model.safetensors.index.json").read_text())["weight_map"]
    stored = {name: load_file(made / place)[name] for name, place in index.items()}
    expected = {name: w for name, w in held.items() if name.startswith("model.")}
    expected |= {f"score.{kind}": held[f"score_head.{kind}"] for kind in ("weight", "bias")}
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[name], w) for name, w in expected.items())
    config = json.loads((made / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert len(config["id2label"]) == 1


def broken(**tensors: Any) -> Any:
    def change(held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {n: w for n, w in {**held, **tensors}.items() if w is not None}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken(**{"score_head.weight": None}), "no tensor score_head.weight"),
        (broken(**{"score_head.weight": torch.zeros(2, 64)}), "score_head gives 2 scores"),
    ],
)
def test_a_folder_without_a_valid_head_is_refused(
    change: Any, message: str, folder: Path, tmp_path: Path
) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    save_file(change(load_file(folder / "model.safetensors")), tmp_path / "model.safetensors")
    with pytest.raises(EngineError, match=message):
        make_scorer_backend(backend(tmp_path, "transformers"))


def test_other_classifiers_are_not_score_models(tmp_path: Path) -> None:
    from transformers import AutoConfig

    place = stand_ins.sentiment(tmp_path)
    assert not is_score_model(AutoConfig.from_pretrained(place))
