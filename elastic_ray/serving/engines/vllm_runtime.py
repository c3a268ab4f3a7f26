"""vLLM on this machine: whether it is available, the environment it needs, whether it is alive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from ...checkpoints.classifier import SCORE_MODELS
from ..errors import EngineError
from ..gpu_sharing import cache_bytes
from ..types import EngineConfig, ScorerConfig
from .heartbeat import Heartbeat

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


def vllm_unavailable_reason() -> str | None:
    """Return why vLLM cannot be imported here; None where it can."""
    try:
        import vllm  # noqa: F401
    except Exception as e:  # an old CPU or a missing library raises various errors
        return f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
    return None


def choose_vllm(what: str, kind: str, gpus: float) -> tuple[bool, str | None]:
    """Return whether vLLM is used where `kind` is configured, and the notice of a fallback.

    "auto" falls back to transformers where vLLM is missing, or is built for GPUs and the process
    has none (`gpus`): it would not start then. Raises `EngineError`, which begins with
    `what`, if "vllm" is configured and cannot be used.
    """
    if kind == "transformers":
        return False, None
    reason = vllm_unavailable_reason() or (None if gpus else _needs_gpu())
    if reason is None:
        return True, None
    if kind == "vllm":
        raise EngineError(f"{what}: vLLM is not available: {reason}")
    return False, f"vLLM is not available ({reason}); transformers is used"


def _needs_gpu() -> str | None:
    """Return why vLLM cannot run without a GPU here; None where it is built for CPUs."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        return None
    return "it is built for GPUs, and this replica has none (resources.*.gpus)"


def foreign_architecture(config: Mapping[str, Any]) -> str | None:
    """Return why vLLM has no classifier of its own for a model's configuration; None if it has.

    It would run others through transformers' layers, with heads and poolers of its own.
    """
    from vllm.model_executor.models.registry import ModelRegistry

    known = set(ModelRegistry.get_supported_archs())
    for name in map(str, config.get("architectures") or ()):
        body = name.replace("ForSequenceClassification", "ForCausalLM")
        if name in known or body in known or name in SCORE_MODELS:
            return None
        return f"vLLM has no {name}"
    return "its config.json names no architecture"


def batch_arguments(gpus: float) -> dict[str, int]:
    """Return the batch limits of engine arguments.

    Where an engine has a GPU alone they are vLLM's own for throughput (`UsageContext.LLM_CLASS`).
    The largest of those, 1,024 sequences and 16,384 tokens, take gigabytes of activations; engines
    that share a GPU get the ones of smaller GPUs.
    """
    return {"max_num_seqs": 256, "max_num_batched_tokens": 8192} if 0 < gpus < 1 else {}


def cache_arguments(
    config: EngineConfig | ScorerConfig, weight_bytes: int, total_bytes: Callable[[], int]
) -> dict[str, int]:
    """Return the engine argument that sets the cache in bytes, for a part of a GPU."""
    if not 0 < config.gpus < 1:
        return {}
    share = config.gpu_memory_utilization
    return {"kv_cache_memory_bytes": cache_bytes(total_bytes(), share, weight_bytes, config.name)}


def gpu_bytes() -> int:
    """Return the memory in bytes of this process's first GPU, asked without starting CUDA on it."""
    from vllm.platforms import current_platform

    return int(current_platform.get_device_total_memory())


def check_batch_invariance(config: EngineConfig) -> None:
    """Raise `EngineError` if answers must not depend on the batch, and vLLM cannot do that here.

    vLLM's batch-invariant kernels are for GPUs; on CPUs it ignores the setting (vLLM 0.32).
    """
    if not config.deterministic:
        return
    if not config.gpus:
        raise EngineError(
            f"engine {config.name}: generation.deterministic is true, but vLLM computes "
            "independently of the batch on GPUs only; the engine has none"
        )
    from vllm.platforms import current_platform

    if not current_platform.has_device_capability(80):
        raise EngineError(
            f"engine {config.name}: generation.deterministic needs a GPU of compute capability 8.0 "
            f"or higher; found {current_platform.get_device_name()}"
        )


def vllm_environment(config: EngineConfig | ScorerConfig, threads: int) -> dict[str, str]:
    """Return the environment of a process that runs vLLM; set it before vLLM is imported."""
    environment = {
        "VLLM_NO_USAGE_STATS": "1",
        # A forked child would keep open the pipe whose closing signals the replica's end.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if getattr(config, "deterministic", False) and config.gpus:
        environment["VLLM_BATCH_INVARIANT"] = "1"
    if not config.gpus:
        cache_gib = max(1, round(getattr(config, "kv_cache_gib", 1.0)))
        environment |= {
            "VLLM_CPU_KVCACHE_SPACE": str(cache_gib),
            # The engine is in this process (`vllm_in_process`).
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(threads),
            "CUDA_VISIBLE_DEVICES": "",
        }
    return environment


async def check_vllm(llm: AsyncLLM, heartbeat: Heartbeat) -> None:
    """Raise `EngineError` if the engine's process has died or has been silent for too long.

    vLLM's own error is never raised: every process that receives it, such as Serve's controller,
    would import vLLM to read it.
    """
    try:
        await llm.check_health()
        heartbeat.beat()
    except Exception as e:
        raise EngineError(f"the engine's process is dead: {last_line(e)}") from None


async def unless_dead(llm: AsyncLLM, work: Coroutine[Any, Any, None]) -> None:
    """Await `work`. If the engine's process dies, raise its error: calls to it never return."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait({task}, timeout=1.0)
        if not task.done() and llm.errored:
            task.cancel()
            raise llm.dead_error
    task.result()


def last_line(error: BaseException) -> str:
    """Return the last line of an error: vLLM puts the worker's own message there."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[-1][-500:]
