"""The cluster at hand: the nodes that a sweep would run on if it were started now.

A running Ray cluster is joined for a moment, as `cluster.connect` would join it; where there is
none, it is this machine.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ..placement import GPUS, Node, nodes_from_ray


def available_nodes() -> tuple[tuple[Node, ...], str]:
    """The nodes, and what they are in words; `OSError` where a cluster is named but not there."""
    address = os.environ.get("RAY_ADDRESS") or "auto"
    noted = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    if address == "local" or (address == "auto" and not noted.is_file()):
        return (this_machine(),), "this machine"
    try:
        from .ray_cluster import running_cluster_nodes
    except ImportError:  # without Ray a running cluster is somebody else's
        return (this_machine(),), "this machine"

    found = running_cluster_nodes()
    return (
        (nodes_from_ray(found), "the running cluster")
        if found
        else ((this_machine(),), "this machine")
    )


def this_machine() -> Node:
    """This machine as one node, its GPUs as nvidia-smi tells them."""
    cpus = float(len(os.sched_getaffinity(0)))
    try:
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return Node("here", cpus, shown="this machine")
    lines = told.stdout.strip().splitlines() if told.returncode == 0 else []
    kind = _kind(lines[0]) if lines else None
    return Node("here", cpus, len(lines), kind, "this machine")


def _kind(line: str) -> str:
    """The name that Ray would give the GPU of "NVIDIA A100-SXM4-40GB, 40960"."""
    name, _, mebibytes = line.rpartition(",")
    words = name.replace("-", " ").split()
    kind = next((word for word in words if word in GPUS), name.strip())
    small = kind == "A100" and float(mebibytes) < 50_000
    return "A100-40G" if small else kind
