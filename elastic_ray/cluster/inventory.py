"""The nodes that a sweep would run on if it were started now, without starting it.

If a Ray cluster is running, this joins it briefly, as `ray_cluster.connect` would. Otherwise it
describes this machine.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ..placement import GPUS, Node, nodes_from_ray
from .limits import usable_cpus

THIS_MACHINE = "this machine"


def available_nodes() -> tuple[tuple[Node, ...], str]:
    """Return the available nodes, and the name of the cluster as shown to people.

    Raises `OSError` if `RAY_ADDRESS` names a cluster that does not answer.
    """
    address = os.environ.get("RAY_ADDRESS") or "auto"
    # Ray notes the address of the current cluster here.
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    if address == "local" or (address == "auto" and not note.is_file()):
        return (this_machine(),), THIS_MACHINE
    try:
        from .ray_cluster import running_cluster_nodes
    except ImportError:  # Ray is not installed here, so the noted cluster is another program's
        return (this_machine(),), THIS_MACHINE

    records = running_cluster_nodes()
    if records:
        return nodes_from_ray(records), "the running cluster"
    return (this_machine(),), THIS_MACHINE


def this_machine() -> Node:
    """Return this machine as a node, with the GPUs that nvidia-smi lists."""
    cpus = usable_cpus()
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return Node("here", cpus, label=THIS_MACHINE)
    lines = done.stdout.strip().splitlines() if done.returncode == 0 else []
    gpu_type = _gpu_type(lines[0]) if lines else None
    return Node("here", cpus, len(lines), gpu_type, THIS_MACHINE)


def _gpu_type(line: str) -> str:
    """Return Ray's name for the GPU of a line such as "NVIDIA A100-SXM4-40GB, 40960" (MiB)."""
    name, _, mebibytes = line.rpartition(",")
    words = name.replace("-", " ").split()
    gpu_type = next((word for word in words if word in GPUS), name.strip())
    small = gpu_type == "A100" and float(mebibytes) < 50_000
    return "A100-40G" if small else gpu_type
