"""Where a plan runs on the nodes of a cluster, how much memory it needs, and how long it takes."""

from __future__ import annotations

from .allocation import SweepAllocation, allocate
from .bin_packing import Allocation
from .flops import DEVICES, Rate, generation_seconds, rate
from .hardware import GPUS
from .layout import (
    SETUP_CPUS,
    EngineSlot,
    Layout,
    ResourceNeeds,
    TrainerSlot,
    count_by_node,
    memory_share,
)
from .memory import CACHED_REQUESTS, checkpoint_bytes
from .nodes import CPUS_PER_GPU, Node, describe_nodes, nodes_from_ray, parse_cluster
from .placer import adapt, lay_out
from .wall_clock import estimate_wall_clock
from .worker_count import settle_worker_count
from .workload import (
    answers_per_teacher,
    engine_memory,
    gpu_hours,
    gpu_seconds,
    ladder_profile,
    ladder_seconds,
    scorers_of,
    slowest_gpu,
    texts_per_state,
    workload_of,
)

__all__ = [
    "CACHED_REQUESTS",
    "CPUS_PER_GPU",
    "DEVICES",
    "GPUS",
    "SETUP_CPUS",
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
    "answers_per_teacher",
    "checkpoint_bytes",
    "count_by_node",
    "describe_nodes",
    "engine_memory",
    "estimate_wall_clock",
    "generation_seconds",
    "gpu_hours",
    "gpu_seconds",
    "ladder_profile",
    "ladder_seconds",
    "lay_out",
    "memory_share",
    "nodes_from_ray",
    "parse_cluster",
    "rate",
    "scorers_of",
    "settle_worker_count",
    "slowest_gpu",
    "texts_per_state",
    "workload_of",
]
