"""Sets up torch's process group of a worker group, as Ray Train does, with two additions.

Gloo binds to the interface of the address by which Ray knows the machine. By default it binds to
what the host name resolves to, which is loopback on Debian and Ubuntu, so groups across machines
could not connect. And a group whose set-up fails releases its placement group: Ray Train (2.60)
forgets it, so its CPUs would stay reserved.
"""

from __future__ import annotations

import os
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend


class ProcessGroupConfig(TorchConfig):
    """`TorchConfig` with the set-up of this module; `backend` is "gloo" or "nccl"."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        try:
            worker_group.execute(_bind_gloo_to_ray_interface)
            super().on_start(worker_group, backend_config)
        except Exception:
            worker_group.get_worker_group_state().placement_group_handle.shutdown()
            raise


def _bind_gloo_to_ray_interface() -> None:
    """Set GLOO_SOCKET_IFNAME to the interface that Ray uses, unless the user has set it."""
    own = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # Ray does not annotate it
    [address] = [node["NodeManagerAddress"] for node in nodes if node["NodeID"] == own]
    for interface, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
