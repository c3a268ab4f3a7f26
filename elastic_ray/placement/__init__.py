"""Where a plan runs on the nodes of a cluster, how much memory it needs, and how long it takes."""

from __future__ import annotations

from .allocation import SweepAllocation, allocate
from .bin_packing import Allocation
from .flops import DEVICES, Rate, generation_seconds, rate
from .hardware import GPUS
from .layout import (
    PREPARE_CPUS,
    EngineSlot,
    Layout,
    ResourceNeeds,
    TrainerSlot,
    by_node,
    memory_share,
)
from .memory import CACHED_REQUESTS, checkpoint_bytes
from .nodes import CPUS_PER_GPU, Node, described, nodes_of, told
from .placer import adapt, lay_out
from .wall_clock import clock
from .worker_count import settled
from .workload import (
    device_of,
    gpu_hours,
    gpu_seconds,
    kinds_of,
    ladder_seconds,
    ladders_of,
    queries_of,
    scorers_of,
    texts_of,
    work_of,
)

__all__ = [
    "CACHED_REQUESTS",
    "CPUS_PER_GPU",
    "DEVICES",
    "GPUS",
    "PREPARE_CPUS",
    "Allocation",
    "EngineSlot",
    "Layout",
    "Node",
    "Rate",
    "ResourceNeeds",
    "SweepAllocation",
    "TrainerSlot",
    "adapt",
    "allocate",
    "by_node",
    "checkpoint_bytes",
    "clock",
    "described",
    "device_of",
    "generation_seconds",
    "gpu_hours",
    "gpu_seconds",
    "kinds_of",
    "ladder_seconds",
    "ladders_of",
    "lay_out",
    "memory_share",
    "nodes_of",
    "queries_of",
    "rate",
    "scorers_of",
    "settled",
    "texts_of",
    "told",
    "work_of",
]
