"""The Ray cluster that a sweep runs on: the one that is there, else one that is started here."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

import ray

from ..placement import Node, nodes_from_ray

NODE_ID = "ray.io/node-id"
"""The label that Ray gives every node, its id."""

CONNECT_TIMEOUT = 5.0
"""Seconds that a cluster's head may take to accept a connection; Ray itself waits for minutes."""


def connect(say: Callable[[str], None]) -> bool:
    """Join the running Ray cluster, or start Ray here; True where it was started.

    A cluster is one that `RAY_ADDRESS` names, or that runs on this machine (`ray up`, `ray start`);
    `RAY_ADDRESS=local` starts one in any case. `ConnectionError` where nothing answers at an
    address that was named. An address that Ray only remembers (its file of the current cluster
    outlives a head that was killed) is not waited for: `say` is told, and Ray is started.
    """
    quietly: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    named = os.environ.get("RAY_ADDRESS") or "auto"
    if named == "local":
        del os.environ["RAY_ADDRESS"]  # Ray's own children must find the one that is started
    elif named != "auto":
        _check_answers(named)
        ray.init(address=named, **quietly)
        return False
    elif found := _remembered_address():
        if accepts_connections(found):
            ray.init(address=found, **quietly)
            return False
        say(
            f"Ray remembers a cluster at {found}, but nothing answers there; "
            "Ray is started on this machine"
        )
    ray.init(address="local", include_dashboard=False, **quietly)
    return True


def running_cluster_nodes() -> list[dict[str, Any]] | None:
    """What Ray tells of the nodes of the cluster that `connect` would join, which is left at once;
    None where it would start one. `ConnectionError` as there."""
    named = os.environ.get("RAY_ADDRESS") or "auto"
    if named != "auto":
        _check_answers(named)
    at = named if named != "auto" else _remembered_address()
    if not at or not accepts_connections(at):
        return None
    joined = not ray.is_initialized()
    if joined:
        ray.init(address=at, log_to_driver=False, logging_level=logging.ERROR)
    try:
        return list(ray.nodes())
    finally:
        if joined:
            ray.shutdown()


def staying_nodes() -> tuple[Node, ...]:
    """The nodes of the cluster that this process has joined, without those that gave notice that
    they will be gone soon (a spot node that is taken back, one that is drained)."""
    leaving = _leaving()
    return nodes_from_ray(node for node in ray.nodes() if node["NodeID"] not in leaving)


def departed_nodes(nodes: Iterable[str], leaving: bool = True) -> set[str]:
    """Those of the nodes, by their ids, that left the cluster, or gave notice of it."""
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    return set(nodes) - (alive - _leaving() if leaving else alive)


def _leaving() -> set[str]:
    # No public name tells of notices; Ray Train looks here too.
    from ray._private.state import state

    return set(state.get_draining_nodes())


def _check_answers(named: str) -> None:
    if not accepts_connections(named):
        raise ConnectionError(
            f"RAY_ADDRESS: found {named}; nothing answers there within {CONNECT_TIMEOUT:.0f} s; "
            "give the address of a Ray head, e.g. 10.0.0.1:6379, or local to start Ray here"
        )


def accepts_connections(address: str) -> bool:
    """Whether something accepts connections at host:port, or ray://host:port."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def _remembered_address() -> str | None:
    """The address that Ray would join by itself; None if it knows of none."""
    # No public name tells the address without waiting for what is there.
    from ray._private.services import get_ray_address_from_environment

    try:
        found: str | None = get_ray_address_from_environment("auto", None)
    except ConnectionError:
        return None
    return found
