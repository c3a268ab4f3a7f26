"""Ray Serve applications of engines and scorers, bound to their configuration and resources."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ray.serve.config import RequestRouterConfig

from ..cluster.declared_gpus import usable_gpus
from ..cluster.ray_cluster import NODE_ID
from .deployments import ONGOING_REQUESTS, EngineReplica, HeldStateRouter, ScorerReplica
from .engines.vllm_runtime import vllm_environment
from .types import EngineConfig, ScorerConfig


def bind_engine(config: EngineConfig, replicas: int, node: str | None) -> Any:
    """Return the application of `replicas` engines on a node, or wherever Ray finds resources."""
    router = RequestRouterConfig(
        request_router_class=HeldStateRouter,  # type: ignore[arg-type]  # pydantic v1 fields, read
        request_routing_stats_period_s=1.0,  # type: ignore[arg-type]  # by mypy as **kwargs
    )
    return EngineReplica.options(  # type: ignore[attr-defined]  # `serve.deployment` is untyped
        num_replicas=replicas,
        max_ongoing_requests=ONGOING_REQUESTS,
        request_router_config=router,
        **placement_options(config, config.tensor_parallel, node),
    ).bind(config)


def bind_scorer(config: ScorerConfig, replicas: int, node: str | None) -> Any:
    """Return the application of `replicas` scorers; `node` as in `bind_engine`."""
    return ScorerReplica.options(  # type: ignore[attr-defined]  # `serve.deployment` is untyped
        num_replicas=replicas,
        max_ongoing_requests=ONGOING_REQUESTS,
        **placement_options(config, 1, node),
    ).bind(config)


def placement_options(
    config: EngineConfig | ScorerConfig, tensor_parallel: int, node: str | None
) -> dict[str, Any]:
    """Return the options of a replica: its resources, its node, and its environment variables.

    The environment is set before the replica's process starts, as its libraries read it at import.
    """
    used = replace(config, gpus=usable_gpus(config.gpus))
    environment = vllm_environment(used, threads=max(1, math.floor(config.cpus)))
    actor_options: dict[str, Any] = {
        "runtime_env": {"env_vars": environment},
        "num_cpus": config.cpus,
    }
    if config.gpus and tensor_parallel == 1:
        actor_options["num_gpus"] = config.gpus
    node_labels = {NODE_ID: node} if node else {}
    if node_labels and tensor_parallel == 1:
        actor_options["label_selector"] = node_labels
    options: dict[str, Any] = {"ray_actor_options": actor_options}
    if tensor_parallel > 1:
        # vLLM's own workers take the GPUs of this placement group.
        bundles = [{"CPU": config.cpus, "GPU": 1.0}] + [{"GPU": 1.0}] * (tensor_parallel - 1)
        options |= {"placement_group_bundles": bundles, "placement_group_strategy": "STRICT_PACK"}
        if node_labels:
            options["placement_group_bundle_label_selector"] = [node_labels]
    return options
