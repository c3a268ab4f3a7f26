"""Checkpoints and resume points as files: what is gathered, checked, divided and read back."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the training extra is not installed")

import torch
from transformers import AutoModelForCausalLM

from elastic_ray.checkpoints.files import CheckpointError, checkpoint_checksum, weight_files
from elastic_ray.results.store import Results
from elastic_ray.spec import Init
from elastic_ray.tasks.registry import load_task
from elastic_ray.training import checkpoint_io, resume_point
from elastic_ray.training.job import TrainingError
from elastic_ray.training.resume_point import OptimizerShard, ResumePoint
from elastic_ray.training.start_states import model_config

TOKENIZER = load_task("reviews").tokenizer(None)


def model_of(dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = model_config(Init(hidden_size=64, layers=2), TOKENIZER)
    return AutoModelForCausalLM.from_config(config).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_found(dtype: torch.dtype, value: float) -> None:
    model = model_of(dtype)
    checkpoint_io.gather_weights(model, trained_only=False)
    name, parameter = list(model.named_parameters())[3]
    with torch.no_grad():
        parameter.view(-1)[-2] = value
    with pytest.raises(TrainingError, match=f"diverged: {name} holds values that are not finite"):
        checkpoint_io.gather_weights(model, trained_only=False)
    with torch.no_grad():  # the largest value of the type is finite
        parameter.view(-1)[-2] = torch.finfo(dtype).max
    checkpoint_io.gather_weights(model, trained_only=False)


def test_gathered_weights_are_copies() -> None:
    model = model_of()
    weights = checkpoint_io.gather_weights(model, trained_only=False)
    before = {name: weight.clone() for name, weight in weights.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(torch.equal(weights[name], before[name]) for name in before)


def test_a_checkpoint_in_several_files_is_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, model = Results(tmp_path), model_of()
    weights = checkpoint_io.gather_weights(model, trained_only=False)
    checkpoint_io.save_checkpoint(results, "a" * 20, model, TOKENIZER, weights)
    monkeypatch.setattr(checkpoint_io, "SHARD_BYTES", 100_000)
    saved = checkpoint_io.save_checkpoint(results, "b" * 20, model, TOKENIZER, weights)
    one, several = (tmp_path / "checkpoints" / (name * 20) for name in "ab")
    assert len(weight_files(one)) == 1 and len(weight_files(several)) > 2
    assert saved.checksum == checkpoint_checksum(several)
    index = json.loads((several / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_parameters"] == sum(p.numel() for p in model.parameters())
    loaded = [
        checkpoint_io.load_model(str(folder), None, "float32", False) for folder in (one, several)
    ]
    for name, weight in weights.items():
        assert all(torch.equal(each.get_parameter(name), weight) for each in loaded)


def test_a_checkpoint_saved_beside_the_training_holds_the_weights_of_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, model, stepped = Results(tmp_path), model_of(), threading.Event()
    save = model.save_pretrained

    def save_after_a_step(*arguments: Any, **named: Any) -> None:
        assert stepped.wait(60)
        save(*arguments, **named)

    monkeypatch.setattr(model, "save_pretrained", save_after_a_step)
    weights = checkpoint_io.gather_weights(model, trained_only=False)
    expected = {name: weight.clone() for name, weight in weights.items()}
    saving = threading.Thread(
        target=checkpoint_io.save_checkpoint, args=(results, "a" * 20, model, TOKENIZER, weights)
    )
    saving.start()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    while saving.is_alive():
        model(input_ids=torch.arange(8)[None]).logits.sum().backward()
        optimizer.step()
        stepped.set()
    saving.join()
    folder = tmp_path / "checkpoints" / ("a" * 20)
    loaded = checkpoint_io.load_model(str(folder), None, "float32", False)
    for name, weight in expected.items():
        assert torch.equal(loaded.get_parameter(name), weight), name
    assert any(not torch.equal(p, expected[name]) for name, p in model.named_parameters())


def test_a_missing_or_reshaped_tensor_is_an_error() -> None:
    shapes = checkpoint_io.parameter_shapes(model_of())
    weights = checkpoint_io.gather_weights(model_of(), trained_only=False)
    checkpoint_io.check_shapes(weights, shapes)
    name = next(iter(weights))
    with pytest.raises(TrainingError, match=f"{name} has shape"):
        checkpoint_io.check_shapes({**weights, name: weights[name][:1]}, shapes)
    weights.pop(name)
    with pytest.raises(TrainingError, match=f"{name} is missing"):
        checkpoint_io.check_shapes(weights, shapes)


def step(model: Any, optimizer: Any) -> None:
    model(input_ids=torch.arange(16).view(2, 8)).logits.square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def point_of(results: Results, before: int, zero_stage: int = 0) -> ResumePoint | None:
    return resume_point.load_resume_point(results, "ladder", 0, 1, zero_stage, before)


def test_a_resume_point_restores_model_and_optimiser(tmp_path: Path) -> None:
    results, model = Results(tmp_path), model_of()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    step(model, optimizer)
    shard = OptimizerShard.unwrap(optimizer)
    point = ResumePoint.capture(shard, model, [1.5, 1.25], 300, 2.0)
    resume_point.save_resume_point(results, "ladder", point, 0, 1, 0)
    size = sum(t.numel() * t.element_size() for t in point.tensors.values())
    parameters = sum(p.numel() for p in model.parameters())
    told = resume_point.point_bytes(shard, model)
    assert told == 12 * parameters, "float32 weights are the optimiser's own, written once"
    assert told <= size <= told + 4 * len(point.tensors), "and Adam's step counters"

    other = model_of(seed=1)
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.01)
    assert resume_point.point_bytes(OptimizerShard.unwrap(other_optimizer), other) == told
    read = point_of(results, 3)
    assert read is not None and (read.losses, read.tokens) == ((1.5, 1.25), 300)
    read.restore(OptimizerShard.unwrap(other_optimizer), other)
    for _ in range(3):
        step(model, optimizer)
        step(other, other_optimizer)
    assert all(
        torch.equal(one, two)
        for one, two in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_only_a_usable_point_is_read(tmp_path: Path) -> None:
    """The newest, not beyond a missing rung, of the same workers and stage, and of this version."""
    results, model = Results(tmp_path), model_of()
    optimizer = torch.optim.AdamW(model.parameters())
    for count in (3, 5):
        shard = OptimizerShard.unwrap(optimizer)
        point = ResumePoint.capture(shard, model, [1.0] * count, 0, 0.0)
        resume_point.save_resume_point(results, "ladder", point, 0, 1, 0)
    earlier = tmp_path / "resume" / "ladder" / f"00000007-{'a' * 20}"
    (tmp_path / "resume" / "ladder" / "00000005").rename(earlier)
    resume_point.save_resume_point(results, "ladder", point, 0, 1, 0)
    found = [point_of(results, before) for before in (3, 4, 5, 6, 9)]
    assert [each and len(each.losses) for each in found] == [None, 3, 3, 5, 5]
    assert point_of(results, 9, zero_stage=1) is None
    resume_point.remove_older_points(results, "ladder", 5)
    assert results.folder.names("resume/ladder") == ["00000005"]


def test_a_resume_point_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """A tensor more, fewer, or of another shape; nothing is changed then."""
    model = model_of()
    optimizer = torch.optim.AdamW(model.parameters())
    step(model, optimizer)
    shard = OptimizerShard.unwrap(optimizer)
    point = ResumePoint.capture(shard, model, [1.0], 0, 0.0)
    before = [p.clone() for p in model.parameters()]
    for change in (
        {"0.exp_avg": None},
        {"0.value": None},
        {"0.other": torch.zeros(1)},
        {"900.value": torch.zeros(1)},
        {"0.value": torch.zeros(1)},
        {"0.exp_avg_sq": torch.zeros(1)},
    ):
        tensors = {n: t + 1 for n, t in point.tensors.items()} | change
        damaged = ResumePoint((1.0,), 0, 0.0, {n: t for n, t in tensors.items() if t is not None})
        with pytest.raises(CheckpointError, match=next(iter(change))):
            damaged.restore(shard, model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
