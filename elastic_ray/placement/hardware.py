"""GPU types: memory, peak FLOP/s, and the names that Ray and nvidia-smi give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """A kind of GPU: its memory in GiB, and what it computes of training, FLOP per second.

    The rate is about 40% of the peak in bf16 (in fp16 for a T4 and a V100), as printed by NVIDIA
    without sparsity.
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
    "L40S": Gpu(48, 1.4e14),
    "T4": Gpu(16, 2.6e13),
    "V100": Gpu(16, 5.0e13),
}
"""By the names that Ray gives them."""
