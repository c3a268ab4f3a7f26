"""Simulates the memory of one training step on one GPU without one: fake tensors, real operations.

Runs transformers' model, the loss of training and torch's fused AdamW on tensors without data, and
counts the bytes of every storage while it is alive. Structured as DeepSpeed executes it: gradients
are summed in float32 as they appear; in bf16 AdamW updates a float32 copy of the weights.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM

from elastic_ray.training import loss


@dataclass(frozen=True)
class Simulated:
    """Bytes: of weights, gradient sums and AdamW's state, and the peak of all else, by phase."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    step: int
    """The most that the optimiser's step allocates besides."""

    @property
    def peak(self) -> int:
        """The most bytes at any time."""
        return self.weights + self.gradients + self.optimizer + max(self.activations, self.step)


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        result = function(*arguments, **(keywords or {}))
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor):
                self.count(each)
        return result

    def count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def restart(self) -> int:
        """Begin a new peak; return the bytes that are alive."""
        self.peak = self.now
        return self.now


def simulate(
    kind: str,
    config: Mapping[str, Any],
    rows: int,
    length: int,
    precision: str,
    checkpointing: bool = False,
) -> Simulated:
    """Return the memory of a step on `rows` sequences of `length` tokens, all of which count.

    `kind` and `config` are transformers' model type and configuration.
    """
    half = precision == "bf16"
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        warnings.catch_warnings(),
        # A fake tensor has no values to compare.
        mock.patch.object(loss, "_splits", lambda *parts: True),
    ):
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(kind, **config), dtype=torch.bfloat16 if half else torch.float32
        )
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        live = _LiveBytes()
        parameters = list(model.parameters())
        for parameter in parameters:
            live.count(parameter.data)
        weights = live.now
        loss_model = loss.LossModel(model)
        with live:
            masters = [p.detach().float() for p in parameters] if half else parameters
            moments = [torch.zeros_like(m) for m in masters for _ in ("first", "second")]
            optimizer = live.now - weights
            sums = {p: torch.zeros(p.shape, dtype=torch.float32) for p in parameters}
            gradients = live.now - weights - optimizer

            def add(parameter: Any) -> None:
                sums[parameter].add_(parameter.grad)
                parameter.grad = None

            hooks = [p.register_post_accumulate_grad_hook(add) for p in parameters]
            static = live.restart()
            ids = torch.zeros(rows, length, dtype=torch.int64)
            counted = torch.zeros(rows * (length - 1), dtype=torch.int64)
            loss_model(counted, counted, input_ids=ids).backward()
            activations = live.peak - static
            for hook in hooks:
                hook.remove()
            live.restart()
            steps = [torch.zeros((), dtype=torch.float32) for _ in masters]
            torch._fused_adamw_(
                [m.detach() for m in masters],
                list(sums.values()),
                moments[::2],
                moments[1::2],
                [],
                steps,
                lr=1e-5,
                beta1=0.9,
                beta2=0.95,
                weight_decay=0.0,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )
            step = live.peak - static
    return Simulated(weights, gradients, optimizer, activations, step)
