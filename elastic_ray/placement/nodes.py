"""A cluster's nodes: described in a word (`4x8xA100`), or as Ray tells them (pure).

    CLUSTER = PART { "+" PART }
    PART    = NODES "x" GPUS "x" KIND [ ":" CPUS "cpu" ]     4x8xA100, 2x4xL40S:48cpu
            | NODES "x" CPUS "cpu"                           2x64cpu

CPUs are per node; where a node with GPUs does not say, it has `CPUS_PER_GPU` for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..spec import SpecError
from .hardware import GPUS, Gpu

CPUS_PER_GPU = 8
"""Of a described node that says GPUs only; what clouds rent with GPUs has this many or more."""
MAX_NODES = 1000


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its CPUs, its GPUs and their kind, where it is known (`GPUS`, or another name).

    `name` tells it from others; `shown` is what a person calls it.
    """

    name: str
    cpus: float
    gpus: int = 0
    kind: str | None = None
    shown: str = ""

    @property
    def gpu(self) -> Gpu | None:
        """What is known of its GPUs."""
        return GPUS.get(self.kind or "") if self.gpus else None


def parse_cluster(text: str) -> tuple[Node, ...]:
    """The nodes that a description says; `SpecError` of one line where it says none."""
    nodes: list[Node] = []
    for part in text.split("+"):
        found = re.fullmatch(
            r"(\d{1,5})x(?:(\d{1,3})x([A-Za-z][\w-]*)(?::(\d{1,5})cpu)?|(\d{1,5})cpu)", part.strip()
        )
        if found is None:
            raise _refused(text, f"{part.strip()!r} is no part of a cluster")
        count, gpus, word, beside, alone = found.groups()
        kind = next((name for name in GPUS if name.lower() == (word or "").lower()), None)
        if word and kind is None:
            raise _refused(text, f"{word!r} is not among {', '.join(GPUS)}")
        cpus = int(alone or beside or int(gpus) * CPUS_PER_GPU)
        if not (int(count) and cpus and (alone or int(gpus))):
            raise _refused(text, f"{part.strip()!r} has none of something")
        if len(nodes) + int(count) > MAX_NODES:
            raise _refused(text, f"at most {MAX_NODES:,} nodes")
        for _ in range(int(count)):
            name = f"node {len(nodes) + 1}"
            nodes.append(Node(name, float(cpus), int(gpus or 0), kind, name))
    return tuple(nodes)


def _refused(text: str, why: str) -> SpecError:
    return SpecError(
        f"--cluster: found {text!r}: {why}; must be like 4x8xA100 (nodes x GPUs x kind), "
        "4x8xA100:96cpu (and CPUs), 2x64cpu (no GPU), or several joined by +"
    )


def nodes_from_ray(describe_nodes: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    """The nodes that are alive and offer something, of what `ray.nodes()` told.

    Ray calls an A100 of 40 GB and one of 80 GB the same; without a node's own word
    (`accelerator_type:A100-80G` among its resources) it is taken for the smaller.
    """
    nodes = []
    for each in describe_nodes:
        has = each.get("Resources", {})
        cpus, gpus = float(has.get("CPU", 0.0)), int(has.get("GPU", 0.0))
        if each.get("Alive") and (cpus or gpus):
            kinds = {name.partition(":")[2] for name in has if name.startswith("accelerator_type:")}
            kind = max(kinds, default=None)  # of A100 and A100-80G the one that says more
            kind = "A100-40G" if kind == "A100" else kind
            name = str(each["NodeID"])
            shown = str(each.get("NodeManagerHostname") or name[:8])
            nodes.append(Node(name, cpus, gpus, kind if gpus else None, shown))
    return tuple(sorted(nodes, key=lambda node: (node.shown, node.name)))


def describe_nodes(nodes: Iterable[Node]) -> str:
    """The nodes in a few words: "4 nodes of 8 A100 and 64 CPUs, 1 of 64 CPUs"."""
    kinds: dict[tuple[float, int, str | None], int] = {}
    for node in nodes:
        key = (node.cpus, node.gpus, node.kind)
        kinds[key] = kinds.get(key, 0) + 1
    said: list[str] = []
    for (cpus, gpus, kind), count in kinds.items():
        unit = "" if said else " node" if count == 1 else " nodes"
        has = f"{gpus} {kind or 'GPU'} and " if gpus else ""
        said.append(f"{count}{unit} of {has}{cpus:g} CPUs")
    return ", ".join(said)
