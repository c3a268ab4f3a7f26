"""The device on which a training worker computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..cluster.declared_gpus import gpus_are_declared

if TYPE_CHECKING:
    import torch


def own_device() -> torch.device:
    """Return the device of this worker: the GPU that Ray gave it, or the CPU."""
    import torch

    if gpus_are_declared():
        return torch.device("cpu")
    from ray.train.torch import get_device

    device: torch.device = get_device()
    return device
