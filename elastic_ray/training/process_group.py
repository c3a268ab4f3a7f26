"""How a worker group's processes find each other: torch's process group, set up by Ray Train.

Two things are added to what Train does. Gloo listens on the interface of the address by which Ray
knows the machine: by itself it takes what the machine's own name resolves to, which Debian and
Ubuntu put on loopback, so that groups across machines could not connect. And a group whose set-up
fails gives its room back: Train (2.60) forgets it, and everything after it would wait for its CPUs.
"""

from __future__ import annotations

import os
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend


class ProcessGroupConfig(TorchConfig):
    """`TorchConfig` with the set-up of this module; `backend` is gloo or nccl."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        try:
            worker_group.execute(_listen_where_ray_does)
            super().on_start(worker_group, backend_config)
        except Exception:
            worker_group.get_worker_group_state().placement_group_handle.shutdown()
            raise


def _listen_where_ray_does() -> None:
    """Name this machine's interface to gloo, unless the user has."""
    here = ray.get_runtime_context().get_node_id()
    [address] = [node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == here]
    for interface, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
