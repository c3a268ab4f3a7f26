"""The loss in chunks against the loss of the whole logits, over architectures."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the training extra is not installed")
transformers = pytest.importorskip("transformers", reason="the training extra is not installed")

from torch.nn import functional as F

from elastic_ray.training import loss as module
from elastic_ray.training.loss import LossModel, target_positions

VOCABULARY = 200
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.0}
GPT2 |= {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SHAPE),
    "tied": ("qwen2", {**SHAPE, "tie_word_embeddings": True}),
    "soft-capped": ("gemma2", {**SHAPE, "final_logit_softcapping": 3.0}),
    "divided": ("granite", {**SHAPE, "logits_scaling": 4.0}),
    "multiplied": ("cohere", {**SHAPE, "logit_scale": 0.25}),
    "with a bias": ("phi", {k: v for k, v in SHAPE.items() if k != "head_dim"}),
    "gpt2": ("gpt2", GPT2),
}


def model_of(kind: str, settings: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def batch() -> tuple[Any, Any]:
    """Three rows of 30 tokens with prompts and padding that do not count."""
    ids = torch.randint(4, VOCABULARY, (3, 30), generator=torch.Generator().manual_seed(1))
    targets = ids.clone()
    targets[:, :7], targets[1, 20:] = -100, -100
    return ids, targets


def losses(model: Any, reference: Any) -> tuple[LossModel, float, float]:
    """The loss in chunks and that of the reference's whole logits, after their backward passes."""
    ids, targets = batch()
    mask = torch.ones_like(ids)
    chunked = LossModel(model)
    positions, expected = map(torch.from_numpy, target_positions(targets.numpy()))
    mine = chunked(positions, expected, input_ids=ids, attention_mask=mask)
    (mine * 0.1).backward()
    logits = reference(input_ids=ids, attention_mask=mask, use_cache=False).logits
    whole = F.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), targets[:, 1:].flatten(), reduction="sum"
    )
    (whole * 0.1).backward()
    return chunked, float(mine.detach()), float(whole.detach())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rows", [1000, 16])
def test_loss_and_gradients_are_those_of_the_whole_logits(
    name: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_LOGITS", rows * VOCABULARY)
    model = model_of(*MODELS[name])
    reference = copy.deepcopy(model)
    chunked, mine, whole = losses(model, reference)
    assert chunked.chunked
    assert mine == pytest.approx(whole, rel=1e-6)
    pairs = zip(model.named_parameters(), reference.parameters(), strict=True)
    for (parameter_name, parameter), other in pairs:
        if other.grad is None:
            assert parameter.grad is None
            continue
        largest = max(float(other.grad.abs().max()), 1e-3)
        np.testing.assert_allclose(
            parameter.grad, other.grad, atol=1e-5 * largest, rtol=1e-4, err_msg=parameter_name
        )


def test_another_rule_for_the_logits_is_noticed_and_announced(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A model whose forward pass does more after its output layer than its configuration says."""
    model = model_of("llama", SHAPE)
    forward = type(model).forward

    class Sharper(type(model)):  # type: ignore[misc]
        def forward(self, **inputs: Any) -> Any:
            output = forward(self, **inputs)
            output.logits = output.logits * 1.5
            return output

    model.__class__ = Sharper
    chunked, mine, whole = losses(model, copy.deepcopy(model))
    assert not chunked.chunked
    assert mine == pytest.approx(whole, rel=1e-6)
    assert "Sharper: its logits are not those of its body" in caplog.text


def test_adapters_train_through_a_frozen_output_layer() -> None:
    peft = pytest.importorskip("peft", reason="the training extra is not installed")
    settings = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
    adapted = peft.get_peft_model(model_of("llama", SHAPE), settings)
    reference = copy.deepcopy(adapted)
    chunked, mine, whole = losses(adapted, reference)
    assert chunked.chunked
    assert mine == pytest.approx(whole, rel=1e-6)
    trained = {n: p.grad for n, p in adapted.named_parameters() if p.grad is not None}
    assert trained and all("lora_" in name for name in trained)
    others = dict(reference.named_parameters())
    for name, grad in trained.items():
        np.testing.assert_allclose(grad, others[name].grad, atol=1e-6, rtol=1e-3, err_msg=name)


def test_a_batch_without_targets_has_no_loss_and_no_gradient() -> None:
    model = model_of("llama", SHAPE)
    ids, targets = batch()
    positions, expected = map(torch.from_numpy, target_positions(np.full_like(targets, -100)))
    loss = LossModel(model)(positions, expected, input_ids=ids)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_positions_point_at_the_token_before_each_target() -> None:
    targets = np.array([[5, -100, 7, 8], [-100, 3, -100, -100]], dtype=np.int64)
    positions, expected = target_positions(targets)
    assert positions.tolist() == [1, 2, 4]
    assert expected.tolist() == [7, 8, 3]
