"""Errors of a full memory, GPU or CPU, and the setting that would avoid each."""

from __future__ import annotations

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


def describe(error: BaseException, runtime: Runtime, recipe: Recipe) -> str:
    """Return the error to record: the settings, what torch said, and the setting to change."""
    reason = " ".join(str(error).split())[:160]
    return (
        f"{OUT_OF_MEMORY} with workers {runtime.workers}, zero_stage {runtime.zero_stage}, "
        f"micro_batch {runtime.micro_batch}, checkpointing {str(runtime.checkpointing).lower()}, "
        f"offload {runtime.offload}; set {advice(runtime, recipe)} ({reason})"
    )


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
