"""One optimiser step on a rank's micro batches, with whatever engine runs the model.

An engine has the methods of DeepSpeed's that are used here. The module needs torch alone, so
`benchmarks/gpu.py` takes the same step on a machine that has no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from .loss import target_positions
from .micro_batches import MicroBatch


class Engine(Protocol):
    """A model with its optimiser; calling it returns the loss (see `loss.LossModel`)."""

    optimizer: Any

    def __call__(self, positions: Any, expected: Any, **inputs: Any) -> Any: ...
    def set_gradient_accumulation_boundary(self, is_boundary: bool) -> None: ...
    def backward(self, loss: Any, *, scale_wrt_gas: bool) -> Any: ...
    def step(self) -> Any: ...


def take_step(
    engine: Engine, micro_batches: Sequence[MicroBatch], scale: float, rate: float, device: Any
) -> torch.Tensor:
    """Take one step at learning rate `rate`; return this rank's summed loss, on the device.

    `scale` multiplies the loss before the backward pass. The device is not waited for.
    """
    for group in engine.optimizer.param_groups:
        group["lr"] = rate
    total = torch.zeros((), dtype=torch.float64, device=device)
    for i, micro_batch in enumerate(micro_batches, start=1):
        engine.set_gradient_accumulation_boundary(i == len(micro_batches))
        ids = _to_device(micro_batch.ids, device)
        positions, expected = (
            _to_device(each, device) for each in target_positions(micro_batch.targets)
        )
        loss = engine(positions, expected, input_ids=ids)
        engine.backward(loss * scale, scale_wrt_gas=False)
        total += loss.detach()
    engine.step()
    return total


def _to_device(array: Any, device: Any) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor
    # From pageable memory, the copy would wait for all earlier work of the device.
    return tensor.pin_memory().to(device, non_blocking=True)
