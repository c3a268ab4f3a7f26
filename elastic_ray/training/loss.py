"""The loss of a micro batch, without the logits of all its tokens.

The logits of a micro batch are its largest tensor: tokens x vocabulary, several times over in
float32. `LossModel` runs the body of a causal language model once, then the output layer on
`CHUNK_LOGITS` logits at a time, and only for tokens whose successor counts. The gradients of the
output layer's input and weight are computed in the same pass, so nothing is computed twice and
nothing of a chunk is kept; those of the weight add up in float32. (The method is that of fused
linear cross-entropy, e.g. Hsu et al. 2024, "Liger Kernel", in plain torch.)

The output layer stays a module that is called once, so ZeRO-3 gathers its weight as always.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from ..placement.training_memory import CHUNK_LOGITS
from .batches import IGNORED

SPLIT_PROBE = 4
"""Tokens on which the split is compared with the model's own logits."""


def target_positions(targets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (positions, tokens) of what the loss counts in targets of shape (rows, length).

    `positions` index the flattened rows x length hidden states, each of which predicts one of
    `tokens`, the target that follows it.
    """
    following = np.full_like(targets, IGNORED)
    following[:, :-1] = targets[:, 1:]
    positions = np.flatnonzero(following != IGNORED)
    return positions, following.reshape(-1)[positions]


class LossModel(nn.Module):
    """A causal language model whose output is its loss, summed over the targets.

    The output layer of `model` is changed in place, so the model's own forward pass can no longer
    be used. A model whose logits are not a known function of body and output layer keeps it, with
    a warning: its logits are computed for all tokens.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        head, body = causal.get_output_embeddings(), causal.base_model
        scaling = _scaling(causal.config)
        self.chunked = _splits(model, causal, body, head, scaling)
        """Whether the loss is computed in chunks."""
        if self.chunked:
            head.__class__ = _LossHead
            head.scaling = scaling
        else:
            logging.getLogger(__name__).warning(
                "%s: its logits are not those of its body and output layer alone; the loss needs "
                "the logits of a whole micro batch",
                type(causal).__name__,
            )
        # Not registered: they are parts of `model`, and parameters keep one name.
        self._parts: tuple[Any, Any] = (body, head)

    def forward(self, positions: Any, expected: Any, **inputs: Any) -> Any:
        """Return the summed cross-entropy of `expected` (see `target_positions`), in float32.

        `inputs` are those of the model: `input_ids` of shape (rows, length), and so on.
        """
        if not self.chunked:
            logits = self.model(**inputs, use_cache=False).logits.flatten(0, 1)[positions]
            loss: Any = F.cross_entropy(logits.float(), expected, reduction="sum")
            return loss
        body, head = self._parts
        hidden = body(**inputs, use_cache=False).last_hidden_state
        return head(hidden.flatten(0, 1)[positions], expected)


class _LossHead(nn.Linear):
    """An output layer that returns the summed cross-entropy of its logits."""

    scaling: Callable[[Any], Any]

    def forward(self, hidden: Any, expected: Any) -> Any:  # type: ignore[override]
        loss: Any = _HeadLoss.apply(hidden, self.weight, self.bias, expected, self.scaling)  # type: ignore[no-untyped-call]
        return loss


class _HeadLoss(torch.autograd.Function):
    """Summed cross-entropy of `scaling(hidden @ weight.T + bias)`; gradients in the same pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Any, weight: Any, bias: Any, expected: Any, scaling: Callable[[Any], Any]
    ) -> Any:
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grads: list[Any] = [
            torch.empty_like(hidden) if needs_hidden else None,
            torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None,
            torch.zeros_like(bias, dtype=torch.float32) if needs_bias else None,
        ]
        rows = max(1, CHUNK_LOGITS // weight.shape[0])
        for start in range(0, hidden.shape[0], rows):
            part = hidden[start : start + rows]
            logits = F.linear(part, weight, bias).requires_grad_()
            with torch.enable_grad():
                value = F.cross_entropy(
                    scaling(logits).float(), expected[start : start + rows], reduction="sum"
                )
            (grad,) = torch.autograd.grad(value, logits)
            loss += value.detach()
            if needs_hidden:
                torch.mm(grad, weight, out=grads[0][start : start + rows])
            if needs_weight:
                grads[1] += grad.t() @ part
            if needs_bias:
                grads[2] += grad.sum(0, dtype=torch.float32)
        ctx.save_for_backward(*grads)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        (scale,) = outer
        grads = [
            None if grad is None else grad.mul_(scale).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return *grads, None, None


def _identity(logits: Any) -> Any:
    return logits


def _capped(cap: float, logits: Any) -> Any:
    return torch.tanh(logits / cap) * cap


def _divided(by: float, logits: Any) -> Any:
    return logits / by


def _multiplied(by: float, logits: Any) -> Any:
    return logits * by


def _scaling(config: Any) -> Callable[[Any], Any]:
    """Return what the architecture applies to the output layer's values (Gemma 2, Granite, Cohere).

    By the names that transformers gives them in configurations. An architecture with another rule
    is noticed by `_splits`.
    """
    for name, rule in (
        ("final_logit_softcapping", _capped),
        ("logits_scaling", _divided),
        ("logit_scale", _multiplied),
    ):
        value = getattr(config, name, None)
        if value is not None:
            return functools.partial(rule, float(value))
    return _identity


def _splits(model: Any, causal: Any, body: Any, head: Any, scaling: Callable[[Any], Any]) -> bool:
    """Return whether the model's logits equal, bit for bit, those of its body and output layer.

    Compared on a few tokens, with the weights that it has.
    """
    if type(head) is not nn.Linear or body is causal:
        return False
    caught: list[Any] = []
    hook = body.register_forward_hook(lambda module, args, output: caught.append(output))
    training = model.training
    model.eval()
    try:
        size = causal.get_input_embeddings().weight.shape[0]
        ids = torch.arange(SPLIT_PROBE, device=head.weight.device)[None] % size
        with torch.inference_mode():
            whole = model(input_ids=ids, use_cache=False).logits
            hidden = getattr(caught[0], "last_hidden_state", None) if len(caught) == 1 else None
            return hidden is not None and torch.equal(scaling(head(hidden)), whole)
    finally:
        hook.remove()
        model.train(training)
