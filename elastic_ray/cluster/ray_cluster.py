"""Connects to a running Ray cluster, or starts one on this machine, and lists its nodes."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

import ray

from ..placement import Node, nodes_from_ray
from .address import address_problem

NODE_ID = "ray.io/node-id"
"""The label that holds a node's id; Ray sets it on every node."""
CONNECT_TIMEOUT = 5.0
"""Seconds to wait until a cluster's head accepts a connection. Ray itself would wait minutes."""


def connect(notify: Callable[[str], None]) -> bool:
    """Join the running Ray cluster, or start Ray on this machine; return True if it was started.

    The running cluster is the one that `RAY_ADDRESS` names, or one that was started on this machine
    (`ray up`, `ray start`). `RAY_ADDRESS=local` always starts one. Raises `ConnectionError` if
    nothing answers at the named address. Ray also remembers the address of the last cluster in a
    file that outlives a killed head; if nothing answers there, `notify` gets a message and Ray is
    started here.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    named = os.environ.get("RAY_ADDRESS") or "auto"
    if named == "local":
        del os.environ["RAY_ADDRESS"]  # Ray's child processes must find the cluster started here
    elif named != "auto":
        _check_connection(named)
        ray.init(address=named, **options)
        return False
    elif remembered := _remembered_address():
        if accepts_connections(remembered):
            ray.init(address=remembered, **options)
            return False
        notify(
            f"Ray remembers a cluster at {remembered}, but nothing answers there; "
            "Ray is started on this machine"
        )
    # By default Serve's controller looks ten times a second for something to do, which takes a
    # tenth of a core.
    os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "0.3")
    ray.init(address="local", include_dashboard=False, **options)
    return True


def running_cluster_nodes() -> list[dict[str, Any]] | None:
    """Return `ray.nodes()` of the cluster that `connect` would join; None if it would start one.

    Joins the cluster for the call only. Raises `ConnectionError` as `connect` does.
    """
    named = os.environ.get("RAY_ADDRESS") or "auto"
    if named != "auto":
        _check_connection(named)
    address = named if named != "auto" else _remembered_address()
    if not address or not accepts_connections(address):
        return None
    joins = not ray.is_initialized()
    if joins:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        return _ray_nodes()
    finally:
        if joins:
            ray.shutdown()


def room_notice(cpus: float, gpus: float) -> str | None:
    """Return a line if the joined cluster has no room now for work of that size, else None."""
    free, total = _resources()
    wanted = {"CPU": cpus, "GPU": gpus}
    if not any(free.get(name, 0.0) + 1e-6 < amount for name, amount in wanted.items() if amount):
        return None
    kinds = [name for name in wanted if total.get(name)]
    held = " and ".join(f"{free.get(name, 0):g} of {total[name]:g} {name}s" for name in kinds)
    needed = " and ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)
    return (
        f"waiting for room on the cluster: {held} are free, and the smallest part of this sweep "
        f"needs {needed}; it begins when others release them and waits without a limit "
        "(Ctrl-C stops it)"
    )


def staying_nodes() -> tuple[Node, ...]:
    """Return the nodes of the joined cluster, except those that will leave soon.

    A node announces that it will leave when its spot instance is reclaimed or it is drained.
    """
    leaving = _leaving_nodes()
    return nodes_from_ray(node for node in _ray_nodes() if node["NodeID"] not in leaving)


def departed_nodes(nodes: Iterable[str], leaving: bool = True) -> set[str]:
    """Return those of the node ids that have left the cluster; with `leaving`, or will soon."""
    alive = {node["NodeID"] for node in _ray_nodes() if node["Alive"]}
    return set(nodes) - (alive - _leaving_nodes() if leaving else alive)


def _ray_nodes() -> list[dict[str, Any]]:
    return list(ray.nodes())  # type: ignore[no-untyped-call]  # Ray does not annotate it


def _resources() -> tuple[dict[str, float], dict[str, float]]:
    """Return the free and the total resources of the joined cluster, by name."""
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    return free, ray.cluster_resources()  # type: ignore[no-untyped-call]


def _leaving_nodes() -> set[str]:
    # Ray has no public function for this; Ray Train uses the same one.
    from ray._private.state import state

    return set(state.get_draining_nodes())


def _check_connection(address: str) -> None:
    """Raise `ConnectionError` unless something answers at the address that `RAY_ADDRESS` names."""
    if problem := address_problem(address):
        raise ConnectionError(problem)
    if not accepts_connections(address):
        raise ConnectionError(
            f"RAY_ADDRESS: found {address}; nothing answers there within {CONNECT_TIMEOUT:.0f} s; "
            "give the address of a Ray head, e.g. 10.0.0.1:6379, or local to start Ray here"
        )


def accepts_connections(address: str) -> bool:
    """Return whether something accepts connections at host:port, or ray://host:port."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def _remembered_address() -> str | None:
    """Return the address of the cluster that Ray would join by default; None if it knows none."""
    # Ray's public functions wait for the cluster instead of returning its address.
    from ray._private.services import get_ray_address_from_environment

    try:
        address: str | None = get_ray_address_from_environment("auto", None)
    except ConnectionError:
        return None
    return address
