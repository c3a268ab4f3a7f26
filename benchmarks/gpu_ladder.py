"""A ladder for `gpu.py` to measure: model, loss, optimiser and batch as a sweep has them."""

from __future__ import annotations

import gc
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from elastic_ray.placement.training_memory import training_memory
from elastic_ray.plan.model_shape import KNOWN, ModelShape
from elastic_ray.spec import Lora, Recipe, Runtime
from elastic_ray.training.batches import IGNORED, TokenizedExample, count_targets
from elastic_ray.training.deepspeed_config import deepspeed_config
from elastic_ray.training.lora import peft_config
from elastic_ray.training.loss import LossModel
from elastic_ray.training.micro_batches import MicroBatch, shard
from elastic_ray.training.step import take_step

FIRST = 1
"""Token id with which every example begins."""
NAMES = {"1b": "llama-3.2-1b", "3b": "qwen2.5-3b", "7b": "qwen1.5-7b"}
"""The model whose shape stands for each size."""
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if ON_GPU else torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """One ladder to measure."""

    size: str
    name: str
    division: str = "by length"
    checkpointing: bool = False
    whole_logits: bool = False
    lora: bool = False
    offload: bool = False
    saves: bool = False
    """Whether loading, a snapshot and a resume point are measured as well."""


class WholeLogits(nn.Module):
    """A model whose loss takes the logits of the whole micro batch, for comparison."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, positions: Any, expected: Any, **inputs: Any) -> Any:
        logits = self.model(**inputs, use_cache=False).logits.flatten(0, 1)[positions]
        return F.cross_entropy(logits.float(), expected, reduction="sum")


class Packed(nn.Module):
    """A loss model whose rows hold several examples, each of which begins with `FIRST`."""

    def __init__(self, loss_model: Any) -> None:
        super().__init__()
        self.loss_model = loss_model

    def forward(self, positions: Any, expected: Any, input_ids: Any) -> Any:
        places = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        begins = torch.where(input_ids == FIRST, places, 0).cummax(dim=1).values
        return self.loss_model(
            positions, expected, input_ids=input_ids, position_ids=places - begins
        )


class PlainEngine:
    """Stands in for DeepSpeed: AdamW on float32 copies, gradients added up in float32."""

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.module, self._norm = model, recipe.max_grad_norm
        self._own = [p for p in model.parameters() if p.requires_grad]
        self._copies = [p.detach().float().requires_grad_() for p in self._own]
        self.optimizer = torch.optim.AdamW(
            self._copies,
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.epsilon,
            weight_decay=recipe.weight_decay,
            fused=True,
        )

    def __call__(self, *arguments: Any, **inputs: Any) -> Any:
        return self.module(*arguments, **inputs)

    def set_gradient_accumulation_boundary(self, is_boundary: bool) -> None:
        """Do nothing: `step` is called at the boundary only."""

    def backward(self, loss: Any, *, scale_wrt_gas: bool) -> None:
        """Add the gradients up in float32."""
        loss.backward()
        for own, copy in zip(self._own, self._copies, strict=True):
            if own.grad is None:
                continue
            if copy.grad is None:
                copy.grad = own.grad.float()
            else:
                copy.grad += own.grad
            own.grad = None

    def step(self) -> None:
        """Step, and copy the weights back."""
        nn.utils.clip_grad_norm_(self._copies, self._norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            for own, copy in zip(self._own, self._copies, strict=True):
                own.copy_(copy)

    def destroy(self) -> None:
        """Do nothing: the memory goes with the object."""


def shape_named(size: str, small: bool) -> ModelShape:
    """Return the shape of a size; a small one has some hundred thousand parameters."""
    shape = next(s for pattern, s in KNOWN.items() if re.fullmatch(pattern, NAMES[size]))
    if not small:
        return shape
    return replace(
        shape, hidden=64, layers=2, intermediate=160, heads=4, attention=64, key_values=32,
        vocabulary=2000,
    )  # fmt: skip


def build(shape: ModelShape) -> Any:
    """Return a model of that shape with random bf16 weights on the device."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    head = shape.attention // shape.heads
    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.intermediate,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_values // head,
        head_dim=head,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    with torch.device(DEVICE):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def examples(shape: ModelShape, longest: int, count: int) -> list[TokenizedExample]:
    """Return examples of random tokens; a fifth of them are cut at the longest length."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(np.log(0.45 * longest), 0.65, count), 8, longest).astype(int)
    found = []
    for length in lengths:
        ids = [FIRST, *draw.integers(2, shape.vocabulary, length - 1).tolist()]
        # Of a packed row, no token predicts the first one of the next example.
        found.append(TokenizedExample(ids, [IGNORED, *ids[1:]]))
    return found


def divided(
    batch: Sequence[TokenizedExample], division: str, rows: int, longest: int
) -> list[MicroBatch]:
    """Return the micro batches of a batch, of at most `rows` rows each."""
    if division == "by length":
        return shard(batch, 0, 1, rows, 0)
    filled: list[list[TokenizedExample]] = []
    if division == "packed":
        for one in sorted(batch, key=lambda each: -len(each.ids)):
            room = (row for row in filled if sum(len(e.ids) for e in row) + len(one.ids) <= longest)
            row = next(room, None)
            filled.append([one]) if row is None else row.append(one)
    else:
        filled = [[one] for one in batch]
    return [_padded(filled[start : start + rows]) for start in range(0, len(filled), rows)]


def _padded(rows: list[list[TokenizedExample]]) -> MicroBatch:
    ids = [[token for one in row for token in one.ids] for row in rows]
    targets = [[token for one in row for token in one.targets] for row in rows]
    longest = max(map(len, ids))
    return MicroBatch(
        np.array([row + [0] * (longest - len(row)) for row in ids]),
        np.array([row + [IGNORED] * (longest - len(row)) for row in targets]),
    )


class Ladder:
    """A model with its optimiser, as a sweep's trainer sets it up."""

    def __init__(self, case: Case, shape: ModelShape, small: bool, deepspeed: Any) -> None:
        longest, batch = (64, 8) if small else (512, 20)
        self.recipe = Recipe(
            precision="bf16", global_batch=batch, max_length=longest, learning_rate=1e-5,
            lora=Lora() if case.lora else None,
        )  # fmt: skip
        self.runtime = Runtime(
            micro_batch=4 if case.size != "1b" else 8, checkpointing=case.checkpointing,
            zero_stage=2 if case.offload else 1,
            offload="optimizer" if case.offload else "none", gpus_per_worker=float(ON_GPU),
        )  # fmt: skip
        self.model = build(shape)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.predicted = training_memory(
            replace(shape, parameters=self.parameters), self.recipe, self.runtime, 1
        ).peak_bytes
        if case.lora:
            from peft import get_peft_model

            self.model = get_peft_model(self.model, peft_config(Lora()))
        self.model.train()
        if case.checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        loss_model = WholeLogits(self.model) if case.whole_logits else LossModel(self.model)
        module = Packed(loss_model) if case.division == "packed" else loss_model
        trained = [p for p in module.parameters() if p.requires_grad]
        if deepspeed is None:
            self.engine: Any = PlainEngine(module, self.recipe)
        else:
            config = deepspeed_config(self.recipe, self.runtime)
            self.engine, *_ = deepspeed.initialize(
                model=module, model_parameters=trained, config=config
            )
        pool = examples(shape, longest, batch)
        self.targets, self.tokens = count_targets(pool), sum(len(one.ids) for one in pool)
        rows = self.runtime.micro_batch
        assert isinstance(rows, int)
        self.micro_batches = divided(pool, case.division, rows, longest)
        self.computed = sum(each.ids.size for each in self.micro_batches)

    def step(self) -> None:
        """Take one step on the batch."""
        take_step(self.engine, self.micro_batches, 1 / self.targets, 1e-5, DEVICE)

    def close(self) -> None:
        """Release the memory."""
        self.engine.destroy()
        del self.engine, self.model
        gc.collect()
        if ON_GPU:
            torch.cuda.empty_cache()
