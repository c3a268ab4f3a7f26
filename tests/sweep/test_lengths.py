"""Lengths in tokens: found before a sweep starts, told, and refused beyond what is allowed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import stand_in_data

from elastic_ray.sweep.__main__ import main
from elastic_ray.sweep.lengths import counts
from elastic_ray.tasks.registry import load_task

pytestmark = pytest.mark.usefixtures("no_notices")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder, with a tokenizer of one to four bytes a token."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("model")
    splits = stand_in_data.write(folder / "data", stand_in_data.saferlhf(60, 60))
    tokenizer = load_task("saferlhf", {"path": str(splits)}).tokenizer(300)
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "m")
    tokenizer.save_pretrained(folder / "m")
    return folder / "m"


def sweep_file(folder: Path, model: Path, splits: dict[str, Any], **training: Any) -> Path:
    data = stand_in_data.write(folder / "data", splits)
    path = folder / "s.yaml"
    shown = ", ".join(f"{key}: {value}" for key, value in training.items())
    path.write_text(
        f"sweep: s\ntask: {{name: saferlhf, scorer: none, data: {{path: {data.name}}}}}\n"
        f"models: [{{name: m, path: {model}}}]\npositive: [16, 32]\nnegative: [0, 8]\n"
        f"training: {{global_batch: 8, micro_batch: 4, {shown}}}\n"
        "generation: {prompts: 20, max_tokens: 8}\nresources: {engines: {context: 256}}\n"
    )
    return path


def dry_run(path: Path, capsys: pytest.CaptureFixture[str], *sets: str) -> tuple[int, str, str]:
    arguments = [part for each in sets for part in ("--set", each)]
    code = main([str(path), "--dry-run", "--results", str(path.parent / "r"), *arguments])
    return code, *capsys.readouterr()


def long_training_prompts(share: int) -> dict[str, Any]:
    splits = stand_in_data.saferlhf(200, 100)
    for i in range(0, 200, share):
        splits["train"][i]["prompt"] = "tell me more about it " * 60 + splits["train"][i]["prompt"]
    return splits


def test_examples_without_an_answer_are_refused_beyond_a_share(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_file(tmp_path, model, long_training_prompts(2), max_length=250)
    code, _, err = dry_run(path, capsys)
    assert code == 2
    assert "nothing is left of their answers, so they teach nothing" in err
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert "s.yaml:6: training.max_length: " in err
    code, out, _ = dry_run(path, capsys, "training.max_untaught=0.9")
    assert code == 0 and "of the positive examples of saferlhf (size" in out
    assert "are longer than max_length, 250 tokens, with m, and lose their ends" in out
    # Even an allowed share may not be the whole of a batch, which has no loss.
    sets = ("training.max_untaught=0.9", "training.global_batch=1", "training.micro_batch=1")
    code, _, err = dry_run(path, capsys, *sets)
    assert code == 2 and "they fill a whole global batch" in err
    code, out, _ = dry_run(path, capsys, "task.data.max_question_characters=400")
    assert code == 0 and "teach nothing" not in out


def test_a_prompt_that_does_not_fit_is_named_before_anything_starts(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = stand_in_data.saferlhf(200, 100)
    for i in range(12):
        splits["test"][i]["prompt"] = "what does this say " + "A1b2" * 300 + f" {i} ?"
    path = sweep_file(tmp_path, model, splits, max_length=256)
    code, _, err = dry_run(path, capsys)
    assert code == 2 and len(err.splitlines()) == 1
    assert "held-out prompts do not fit: prompt 0, 'BEGINNING OF CONVERSATION" in err
    assert "resources.engines.context, 256, leaves 248" in err
    code, out, _ = dry_run(path, capsys, "task.data.max_question_characters=400")
    assert code == 0 and "tokens trained" in out


def test_no_tokenizer_is_asked_about_texts_that_fit_anyway() -> None:
    class Ids:
        input_ids = (list(range(70)),)

    asked: list[list[str]] = []

    def tokenizer(texts: list[str]) -> Ids:
        asked.append(texts)
        return Ids()

    assert counts(["short", "long " * 30], tokenizer, 60)[1] == 70
    assert asked == [["long " * 30]]


def test_a_text_with_a_token_that_has_no_embedding_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tokens that no text holds do no harm, as many published models have them."""
    transformers = pytest.importorskip("transformers")
    more = Path(shutil.copytree(model, tmp_path / "été 模型 a'b"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(more)
    tokenizer.add_tokens(["<|never|>"])
    tokenizer.save_pretrained(more)
    path = sweep_file(tmp_path, model, stand_in_data.saferlhf(200, 100), max_length=250)
    here = f"models.0.path={json.dumps(str(more))}"
    code, _, err = dry_run(path, capsys, here)
    assert code == 0, err
    splits = stand_in_data.saferlhf(200, 100)
    splits["train"][7]["prompt"] += " <|never|>"
    sweep_file(tmp_path, model, splits, max_length=250)
    code, _, err = dry_run(path, capsys, here)
    assert code == 2 and len(err.splitlines()) == 1
    assert "added token '<|never|>' (id 300), for which the model has no embedding" in err
    code, _, err = dry_run(path, capsys)
    assert code == 0, err
