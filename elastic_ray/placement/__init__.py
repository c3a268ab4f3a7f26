"""Where a plan runs on the nodes of a cluster, how much memory it needs, and how long it takes.

- `estimate`: the size and the price of a sweep; `allocation`: the division of a cluster for a sweep
- `placer` computes a `layout` of processes on `nodes`, counting free resources with `bin_packing`;
  `sharing` fits a sweep on fewer GPUs, by fractions or in turns
- `requirements` decides what each process needs, `worker_count` how many workers a trainer has,
  `settings` how each ladder is executed so that it fits (`training_memory`)
- `workload`, `wall_clock`: seconds of a plan, from `flops`, `costs`, `memory` and `hardware`
"""

from __future__ import annotations

from .allocation import SweepAllocation, allocate
from .bin_packing import Allocation
from .estimate import Estimate, estimate
from .flops import CPU_FLOPS, DEVICES, Rate, rate
from .hardware import GPUS
from .layout import (
    SETUP_CPUS,
    EngineSlot,
    Layout,
    Phase,
    ResourceNeeds,
    TrainerSlot,
    Workload,
    count_by_node,
    memory_share,
)
from .memory import CACHED_REQUESTS
from .nodes import CPUS_PER_GPU, Node, describe_nodes, nodes_from_ray, parse_cluster
from .placer import adapt, lay_out
from .sharing import lend_engines
from .wall_clock import LONGEST_TRAINING, WallClock
from .worker_count import settle_worker_count
from .workload import engine_memory, ladder_profile

__all__ = [
    "CACHED_REQUESTS",
    "CPUS_PER_GPU",
    "CPU_FLOPS",
    "DEVICES",
    "GPUS",
    "LONGEST_TRAINING",
    "SETUP_CPUS",
    "Allocation",
    "EngineSlot",
    "Estimate",
    "Layout",
    "Node",
    "Phase",
    "Rate",
    "ResourceNeeds",
    "SweepAllocation",
    "TrainerSlot",
    "WallClock",
    "Workload",
    "adapt",
    "allocate",
    "count_by_node",
    "describe_nodes",
    "engine_memory",
    "estimate",
    "ladder_profile",
    "lay_out",
    "lend_engines",
    "memory_share",
    "nodes_from_ray",
    "parse_cluster",
    "rate",
    "settle_worker_count",
]
