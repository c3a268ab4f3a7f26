"""A start state from a folder is that folder: its own parameters, and its content as planned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the training extra is not installed")
pytest.importorskip("deepspeed", reason="the training extra is not installed")

from architectures import write_model
from safetensors.torch import load_file, save_file

from elastic_ray.checkpoints.files import CheckpointError
from elastic_ray.plan import Plan, load_inputs, plan_sweep
from elastic_ray.results.store import Results
from elastic_ray.spec import Spec, SpecError
from elastic_ray.spec.shorthand import expand
from elastic_ray.tasks.registry import load_task
from elastic_ray.training.lora import checkpoint_of
from elastic_ray.training.start_states import prepare_start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with tied embeddings whose name tells another size."""
    tokenizer = load_task("reviews").tokenizer(None)
    return write_model(tmp_path / "mine-7B", "qwen2.5", tokenizer, seed=0)


def plan_of(folder: Path) -> Plan:
    spec = Spec.model_validate(
        expand(
            {
                "sweep": "folders",
                "task": "reviews",
                "models": [{"name": "m", "path": str(folder)}],
                "positive": [16],
                "negative": [8],
                "training": {"global_batch": 8},
            }
        )
    )
    inputs = load_inputs(spec, to_run=True)
    return plan_sweep(spec, inputs.task_info(), inputs.folders)


def start(plan: Plan, uri: Path) -> dict[str, Any]:
    """Record the plan's start state; return its row."""
    [(state, made)] = plan.starts.items()
    prepare_start(str(uri), state, made, "reviews", {}, "folders", {}, None)
    row = Results(str(uri)).state(state)
    assert row is not None
    return row


def rewrite(folder: Path) -> None:
    file = folder / "model.safetensors"
    save_file({n: t + 1 for n, t in load_file(file).items()}, file, {"format": "pt"})


def test_the_parameters_are_the_models_own_whatever_lies_in_the_folder(
    folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    own = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(folder).parameters())
    tensors = load_file(folder / "model.safetensors")
    save_file({f"other.{n}": t for n, t in tensors.items()}, folder / "consolidated.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    plan = plan_of(folder)
    [group] = plan.groups.values()
    assert group.parameters == own, "planned by the files, not by 7B in the name"
    assert group.shape is not None and group.shape.parameters == own
    assert start(plan, tmp_path / "results")["parameters"] == own


def test_a_folder_that_changed_after_planning_is_refused(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 2.0}))
    with pytest.raises(CheckpointError, match="changed after the sweep was planned"):
        start(plan, tmp_path / "results")


def test_a_folder_that_changed_after_recording_is_refused(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(folder)
    row = start(plan, tmp_path / "results")
    results = Results(str(tmp_path / "results"))
    with checkpoint_of(results, row["state_id"]) as (source, _):
        assert source == str(folder)
    rewrite(folder)
    with (
        pytest.raises(CheckpointError, match="do not match the recorded checksum"),
        checkpoint_of(results, row["state_id"]),
    ):
        pass


def test_a_dry_run_refuses_local_models_in_a_line_each(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from elastic_ray.sweep.__main__ import main

    good, bad, scorer = folder, tmp_path / "bad", tmp_path / "scorer"
    for copy in (bad, scorer):
        shutil.copytree(folder, copy)
    config = json.loads((scorer / "config.json").read_text())
    config["architectures"] = ["Qwen2ForSequenceClassification"]
    config["id2label"] = {"0": "negative", "1": "positive"}
    (scorer / "config.json").write_text(json.dumps(config))
    tensors = load_file(bad / "model.safetensors")
    save_file({f"_orig_mod.{n}": t for n, t in tensors.items()}, bad / "model.safetensors")
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "sweep: local\n"
        "task: {name: reviews, scorer: {name: s, path: " + str(scorer) + "}}\n"
        "models:\n"
        f"  - {{name: good, path: {good}}}\n"
        f"  - {{name: bad, path: {bad}}}\n"
        "positive: [16]\nnegative: [8]\n"
        "training: {global_batch: 8}\n"
    )
    assert main([str(file), "--dry-run", "--results", str(tmp_path / "results")]) == 2
    shown = capsys.readouterr().err.splitlines()
    lines = [line for line in shown if line.startswith("error: ")]
    assert len(lines) == 2 and len(shown) <= 3, shown  # and a notice, if it takes long
    assert "models.1.path" in lines[0] and "_orig_mod." in lines[0] and "sweep.yaml:5:" in lines[0]
    assert "scorer.path" in lines[1] and "score.weight" in lines[1]


def test_a_folder_that_is_no_model_is_a_spec_error(tmp_path: Path) -> None:
    from elastic_ray.plan import check_local_models

    (tmp_path / "empty").mkdir()
    spec = plan_of(tmp_path / "empty").spec
    with pytest.raises(SpecError, match=r"models\.0\.path: .*no model\.safetensors"):
        check_local_models(spec)
