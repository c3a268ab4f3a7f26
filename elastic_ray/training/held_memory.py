"""Decides whether a finished ladder left so much GPU memory allocated that its process must end."""

from __future__ import annotations

MOST_HELD = 0.05
"""Share of a GPU's memory that closed ladders may leave allocated. What stays is leftovers of
DeepSpeed (its issues 5674, 7204), which a later ladder would lack."""


def allocated_memory() -> tuple[int, int] | None:
    """Return the bytes that torch has allocated on this process's GPU and the GPU's total.

    None without a GPU.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return torch.cuda.memory_allocated(), total


def memory_held(before: tuple[int, int] | None, after: tuple[int, int] | None) -> str | None:
    """Return a sentence if more than `MOST_HELD` of the GPU stays allocated, else None.

    `before` and `after` are `allocated_memory()` before the first ladder and after closing one.
    """
    if before is None or after is None:
        return None
    held, total = after[0] - before[0], after[1]
    if held <= MOST_HELD * total:
        return None
    return (
        f"{held / 2**30:.1f} GiB of {total / 2**30:.1f} GiB of GPU memory stay allocated after the "
        "ladder; the next ladder starts in a new process"
    )
