"""Estimates seconds of training and inference from FLOP counts and hardware speed. Pure.

Training takes 6 x parameters x tokens FLOP, inference 2 x (Kaplan et al. 2020, section 2.1); what
comes on top is in `costs`. These are estimates for planning; recorded seconds are measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..plan import UNKNOWN_PARAMETERS
from ..spec import Recipe, Runtime
from .costs import ON_CPUS, ON_GPUS, Costs
from .hardware import GPUS
from .memory import checkpoint_bytes, point_bytes
from .point_policy import BYTES_PER_SECOND, points_of

CPU_FLOPS = 3.0e10
"""FLOP per second of one CPU core that trains a small model, beside engines on the same cores."""
PADDING = 1.08
"""Tokens computed per real token (`training.micro_batches`; measured on IMDb)."""
DEVICES = {name: GPUS[name].flops for name in ("A800", "H100")}
"""FLOP per second of the reference GPU types that every price is given for.

An A800 is an A100 with slower links between GPUs; the paper used A800s."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Sustained speed in FLOP per second, and what work costs besides on such a device."""

    flops: float
    costs: Costs


@dataclass(frozen=True, slots=True)
class LadderSeconds:
    """Estimated seconds of one ladder by part; training waits during each of them."""

    loading: float
    steps: float
    snapshots: float
    points: float
    point_count: int

    @property
    def total(self) -> float:
        """Seconds of the whole ladder."""
        return self.loading + self.steps + self.snapshots + self.points


def rate(workers: int, cpus: float, gpus: float, device: str = "A800") -> Rate:
    """Return the speed of a group of workers that each have that many CPUs and GPUs of a type.

    CPUs count only for workers without a GPU.
    """
    if gpus:
        return Rate(workers * gpus * GPUS[device].flops, ON_GPUS)
    return Rate(workers * cpus * CPU_FLOPS, ON_CPUS)


def training_seconds(
    size: int | None,
    examples: int,
    tokens: float,
    recipe: Recipe,
    rungs: int,
    at: Rate,
    runtime: Runtime,
    workers: int,
) -> LadderSeconds:
    """Return the seconds of one ladder of `examples`, with `tokens` per example.

    `size` is the number of parameters (None: unknown), `rungs` the number of checkpoints.
    """
    costs, parameters = at.costs, size or UNKNOWN_PARAMETERS
    seen = examples * recipe.epochs
    forward_and_backward = 8 if runtime.checkpointing else 6
    computed = seen * min(tokens, recipe.max_length) * PADDING
    step = costs.step
    if runtime.offload == "optimizer" and recipe.lora is None:
        step += parameters / workers * costs.offloaded
    steps = forward_and_backward * parameters * computed / at.flops
    steps += seen / recipe.global_batch * step
    width = 4 if recipe.precision == "fp32" else 2
    saved = checkpoint_bytes(size, recipe)
    saving = saved / costs.saving
    # A ladder waits for its last snapshot, and for earlier ones that take longer than its steps.
    late = max(0.0, (rungs - 1) * saving - steps)
    snapshots = rungs * (costs.snapshot + saved / costs.copying) + saving + late
    # Ranks write at the same time, each its part at the speed assumed before one is measured.
    point = point_bytes(size, recipe) / workers / BYTES_PER_SECOND
    count = points_of(steps, point, math.ceil(seen / recipe.global_batch))
    return LadderSeconds(
        loading=costs.ladder + parameters * width / costs.loading,
        steps=steps,
        snapshots=snapshots,
        points=count * point,
        point_count=count,
    )


def generation_seconds(size: int | None, answers: int, tokens: int, at: Rate) -> float:
    """Return the seconds to generate `answers` of `tokens` each, after a swap of weights."""
    arithmetic = at.costs.answering * reading_seconds(size, answers, tokens, at)
    return arithmetic + answers * tokens * at.costs.token


def reading_seconds(size: int | None, texts: int, tokens: float, at: Rate) -> float:
    """Return the seconds of one forward pass over `texts` of `tokens` each."""
    return 2 * (size or UNKNOWN_PARAMETERS) * texts * tokens / at.flops


def swap_seconds(size: int | None, width: int, at: Rate) -> float:
    """Return the seconds to swap in the weights of a state, in values of `width` bytes."""
    return at.costs.swap + (size or UNKNOWN_PARAMETERS) * width / at.costs.swapping
