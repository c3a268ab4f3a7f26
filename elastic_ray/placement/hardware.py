"""GPU types: their memory, their training speed, and the names that Ray gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU type: `memory` in GiB, `flops` sustained in training (FLOP per second).

    `flops` is about 40% of the peak that NVIDIA states without sparsity: in bf16, for T4 and V100
    in fp16.
    """

    memory: float
    flops: float


GPUS: Mapping[str, Gpu] = {
    "A100": Gpu(80, 1.2e14),
    "A100-40G": Gpu(40, 1.2e14),
    "A100-80G": Gpu(80, 1.2e14),
    "A800": Gpu(80, 1.2e14),
    "A10G": Gpu(24, 2.8e13),
    "B200": Gpu(180, 9.0e14),
    "H100": Gpu(80, 3.8e14),
    "H20": Gpu(96, 5.9e13),
    "H200": Gpu(141, 3.8e14),
    "L4": Gpu(24, 4.8e13),
    "L40S": Gpu(45, 1.4e14),
    "RTX4090": Gpu(24, 6.6e13),
    "T4": Gpu(16, 2.6e13),
    "V100": Gpu(16, 5.0e13),
}
"""The known GPU types, by the names that Ray gives them (`accelerator_type`).

Ray does not tell GeForce cards apart: a node of RTX 4090s needs the resource
`accelerator_type:RTX4090`.
"""
