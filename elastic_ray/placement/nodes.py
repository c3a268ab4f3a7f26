"""The nodes of a cluster, from a short description (`4x8xA100`) or from `ray.nodes()`. Pure.

    CLUSTER = PART { "+" PART }
    PART    = NODES "x" GPUS "x" TYPE [ ":" CPUS "cpu" ]     4x8xA100, 2x4xL40S:48cpu
            | NODES "x" CPUS "cpu"                           2x64cpu

CPUs are per node. A node with GPUs and no stated CPUs has `CPUS_PER_GPU` for each GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..spec import SpecError
from .hardware import GPUS, Gpu

CPUS_PER_GPU = 8
"""CPUs per GPU of a described node that states only GPUs. Cloud machines have this many or more."""
MAX_NODES = 1000


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster: its id, CPUs, GPUs and GPU type.

    `gpu_type` is a key of `GPUS`, another name, or None if unknown. `label` is the name shown to
    people; `name` identifies the node (Ray's node id).
    """

    name: str
    cpus: float
    gpus: int = 0
    gpu_type: str | None = None
    label: str = ""

    @property
    def gpu(self) -> Gpu | None:
        """Memory and speed of its GPUs; None without GPUs or for an unknown type."""
        return GPUS.get(self.gpu_type or "") if self.gpus else None


def parse_cluster(text: str) -> tuple[Node, ...]:
    """Return the nodes of a description (see the module); raise `SpecError` if it is invalid."""
    nodes: list[Node] = []
    for part in text.split("+"):
        match = re.fullmatch(
            r"(\d{1,5})x(?:(\d{1,3})x([A-Za-z][\w-]*)(?::(\d{1,5})cpu)?|(\d{1,5})cpu)", part.strip()
        )
        if match is None:
            raise _invalid(text, f"{part.strip()!r} does not describe nodes")
        count, gpus, type_name, cpus_beside_gpus, cpus_alone = match.groups()
        gpu_type = next((name for name in GPUS if name.lower() == (type_name or "").lower()), None)
        if type_name and gpu_type is None:
            raise _invalid(text, f"{type_name!r} is not among {', '.join(GPUS)}")
        cpus = int(cpus_alone or cpus_beside_gpus or int(gpus) * CPUS_PER_GPU)
        if not (int(count) and cpus and (cpus_alone or int(gpus))):
            raise _invalid(text, f"{part.strip()!r} contains a zero")
        if len(nodes) + int(count) > MAX_NODES:
            raise _invalid(text, f"at most {MAX_NODES:,} nodes")
        for _ in range(int(count)):
            name = f"node {len(nodes) + 1}"
            nodes.append(Node(name, float(cpus), int(gpus or 0), gpu_type, name))
    return tuple(nodes)


def _invalid(text: str, reason: str) -> SpecError:
    return SpecError(
        f"--cluster: found {text!r}: {reason}; must be like 4x8xA100 (nodes x GPUs x type), "
        "4x8xA100:96cpu (with CPUs per node), 2x64cpu (no GPU), or several joined by +"
    )


def nodes_from_ray(records: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    """Return the live nodes with any CPU or GPU, from records of `ray.nodes()`, sorted by label.

    Ray reports A100s of 40 GB and of 80 GB under one name. Unless a node has the resource
    `accelerator_type:A100-80G`, its A100s are taken for the smaller ones.
    """
    nodes = []
    for record in records:
        resources = record.get("Resources", {})
        cpus, gpus = float(resources.get("CPU", 0.0)), int(resources.get("GPU", 0.0))
        if record.get("Alive") and (cpus or gpus):
            types = {
                name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")
            }
            # Of A100 and A100-80G, the longer name is the more specific one.
            gpu_type = max(types, default=None)
            gpu_type = "A100-40G" if gpu_type == "A100" else gpu_type
            name = str(record["NodeID"])
            label = str(record.get("NodeManagerHostname") or name[:8])
            nodes.append(Node(name, cpus, gpus, gpu_type if gpus else None, label))
    return tuple(sorted(nodes, key=lambda node: (node.label, node.name)))


def describe_nodes(nodes: Iterable[Node]) -> str:
    """Return a summary such as "4 nodes of 8 A100 and 64 CPUs, 1 of 64 CPUs"."""
    counts: dict[tuple[float, int, str | None], int] = {}
    for node in nodes:
        key = (node.cpus, node.gpus, node.gpu_type)
        counts[key] = counts.get(key, 0) + 1
    parts: list[str] = []
    for (cpus, gpus, gpu_type), count in counts.items():
        unit = "" if parts else " node" if count == 1 else " nodes"
        amount = f"{gpus} {gpu_type or 'GPU'} and " if gpus else ""
        parts.append(f"{count}{unit} of {amount}{cpus:g} CPUs")
    return ", ".join(parts)
