"""Sets up torch's process group of a worker group with Ray Train's own functions, with additions.

- Gloo binds to the interface of the address by which Ray knows the machine. By default it binds to
  what the host name resolves to, which is loopback on Debian and Ubuntu, so groups across machines
  could not connect.
- A group whose set-up fails releases its placement group: Ray Train (2.60) forgets it, so its CPUs
  would stay reserved.
- Only the workers import torch. The processes that start and watch a group need none of it, and
  importing it takes each of them seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig

CLOSE_TIMEOUT = 30.0
"""Seconds that the workers have to leave the process group before their processes end."""


@dataclass
class ProcessGroupConfig(BackendConfig):
    """The set-up of this module; `backend` is "gloo" or "nccl". As Ray Train's `TorchConfig`."""

    backend: str
    timeout_s: int = 1800
    """Seconds after which a collective operation fails."""

    @property
    def backend_cls(self) -> type[Backend]:
        """The class whose hooks Ray Train's controller calls."""
        return _Backend

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[None]]:
        """What each worker enters around its train function: selects its GPU in that thread."""
        return _on_own_gpu


class _Backend(Backend):
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        try:
            address, port = worker_group.execute_single(0, get_address_and_port)
            joining = [
                worker_group.execute_single_async(
                    rank,
                    _join,
                    address=address,
                    port=port,
                    world_rank=rank,
                    world_size=len(worker_group),
                    backend=backend_config.backend,
                    timeout_s=backend_config.timeout_s,
                )
                for rank in range(len(worker_group))
            ]
            ray.get(joining)
        except Exception:
            worker_group.get_worker_group_state().placement_group_handle.shutdown()
            raise

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        leaving = worker_group.execute_async(_leave, several=len(worker_group) > 1)
        ray.wait(leaving, num_returns=len(leaving), timeout=CLOSE_TIMEOUT)


# Run by the workers.


def _join(
    address: str, port: int, world_rank: int, world_size: int, backend: str, timeout_s: int
) -> None:
    from ray.train.torch.config import (
        _set_torch_distributed_env_vars,
        _setup_torch_process_group,
    )

    _bind_gloo_to_ray_interface()
    os.environ |= {"MASTER_ADDR": address, "MASTER_PORT": str(port)}
    _set_torch_distributed_env_vars()  # type: ignore[no-untyped-call]  # Ray does not annotate it
    _setup_torch_process_group(backend, world_rank, world_size, "env://", timeout_s)


def _leave(several: bool) -> None:
    from ray.train.torch.config import _shutdown_torch

    _shutdown_torch(several)  # type: ignore[no-untyped-call]  # Ray does not annotate it


def _on_own_gpu() -> AbstractContextManager[None]:
    from ray.train.torch.config import TorchConfigContextManager

    context: AbstractContextManager[None] = TorchConfigContextManager()
    return context


def _bind_gloo_to_ray_interface() -> None:
    """Set GLOO_SOCKET_IFNAME to the interface that Ray uses, unless the user has set it."""
    own = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # Ray does not annotate it
    [address] = [node["NodeManagerAddress"] for node in nodes if node["NodeID"] == own]
    for interface, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
