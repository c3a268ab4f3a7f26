"""Errors of a full memory, GPU or CPU, and the setting that would avoid each."""

from __future__ import annotations

from ..plan import Ladder
from ..results.store import Results
from ..spec import Recipe, Runtime

OUT_OF_MEMORY = "out of memory"
"""How every error of `describe` begins. Training again with the same settings would repeat it."""
_SIGNS = ("CUDA out of memory", "DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC")
"""What torch says where it raises a plain `RuntimeError`."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the GPU's or the machine's memory is full."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def describe(error: Exception, runtime: Runtime, recipe: Recipe) -> str:
    """Return the error to record: the settings, the one to change, and what torch said.

    Raises any error again that is not one of memory.
    """
    if not is_out_of_memory(error):
        raise error
    reason = " ".join(str(error).split())[:160]
    return (
        f"{OUT_OF_MEMORY} with workers {runtime.workers}, zero_stage {runtime.zero_stage}, "
        f"micro_batch {runtime.micro_batch}, checkpointing {str(runtime.checkpointing).lower()}, "
        f"offload {runtime.offload}; set {advice(runtime, recipe)} ({reason})"
    )


def failed_before(results: Results, ladder: Ladder, began: float) -> str | None:
    """Return the error of a ladder that ran out of memory since `began` (seconds since 1970)."""
    row = results.state(ladder.id)
    if row is None or row["status"] != "failed" or row["finished_at"] is None:
        return None
    error = str(row["error"])
    again = error.startswith(OUT_OF_MEMORY) and row["finished_at"].timestamp() >= began
    return error if again else None


def advice(runtime: Runtime, recipe: Recipe) -> str:
    """Return the next setting of training that takes less memory, what costs least first."""
    if not runtime.checkpointing:
        return "training.checkpointing: true"
    if isinstance(runtime.micro_batch, int) and runtime.micro_batch > 1:
        return f"training.micro_batch: {max(1, runtime.micro_batch // 2)}"
    if runtime.workers != 1 and runtime.zero_stage != 3:
        return "training.zero_stage: 3"
    if runtime.offload == "none":
        return "training.offload: optimizer"
    if recipe.lora is None:
        return "training.lora, or more training.workers with zero_stage 3"
    return "a smaller training.max_length, or GPUs with more memory"
