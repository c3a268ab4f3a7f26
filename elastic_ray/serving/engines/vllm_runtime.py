"""vLLM on this machine: whether it is available, the environment it needs, whether it is alive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
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


def choose_vllm(what: str, kind: str) -> tuple[bool, str | None]:
    """Return whether vLLM is used where `kind` is configured, and the notice of a fallback.

    "auto" falls back to transformers where vLLM is missing. Raises `EngineError`, which begins with
    `what`, if "vllm" is configured and it cannot be imported.
    """
    if kind == "transformers":
        return False, None
    reason = vllm_unavailable_reason()
    if reason is None:
        return True, None
    if kind == "vllm":
        raise EngineError(f"{what}: vLLM is not available: {reason}")
    return False, f"vLLM is not available ({reason}); transformers is used"


def vllm_environment(config: EngineConfig | ScorerConfig, threads: int) -> dict[str, str]:
    """Return the environment of a process that runs vLLM; set it before vLLM is imported."""
    environment = {
        "VLLM_NO_USAGE_STATS": "1",
        # A forked child would keep open the pipe whose closing signals the replica's end.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if not config.gpus:
        cache_gib = max(1, round(getattr(config, "kv_cache_gib", 1.0)))
        environment |= {
            "VLLM_CPU_KVCACHE_SPACE": str(cache_gib),
            # Required by the "uni" executor; AsyncLLM keeps its engine process all the same.
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
