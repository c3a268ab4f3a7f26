"""How each ladder is executed so that it fits in GPU memory: ZeRO stage, micro batch, ... Pure.

`auto` settings are decided with the formula of `training_memory`: no offloading if possible, then
the largest micro batch, and for it the lowest ZeRO stage. Settings that no GPU of the cluster can
hold are refused, with the nearest ones that it can.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..plan import ModelShape, Plan
from ..spec import Lora, ModelRuntime, Recipe, Runtime, SpecError
from .nodes import Node
from .training_memory import training_memory

FILLED = 0.9
"""Share of a GPU's memory that a worker may be planned to fill where a setting is `auto`."""
MICRO_BATCH = 8
"""The micro batch that `auto` stands for where the GPUs' memory or the model's size is unknown."""
LORA_RANK = 8
"""Rank of the adapters that a refusal suggests."""


@dataclass(frozen=True)
class LadderKind:
    """What the memory of a ladder depends on. `runtime` is the model's, with any `auto` left in."""

    model: str
    shape: ModelShape | None
    recipe: Recipe
    runtime: Runtime

    def choices(self, workers: int) -> Iterator[Runtime]:
        """Yield the settings that the spec allows, the preferred first."""
        runtime = self.runtime.model_copy(update={"workers": workers})
        most = -(-self.recipe.global_batch // workers)
        micro_batches: Sequence[int] = range(most, 0, -1)
        if isinstance(runtime.micro_batch, int):
            micro_batches = (runtime.micro_batch,)
        stages: Sequence[int] = (0, 1, 2, 3)
        if runtime.zero_stage != "auto":
            stages = (runtime.zero_stage,)
        offloads = ("none", "optimizer") if runtime.offload == "auto" else (runtime.offload,)
        for offload in offloads:
            for micro_batch in micro_batches:
                for stage in stages:
                    if stage or offload == "none":
                        chosen = {
                            "offload": offload,
                            "micro_batch": micro_batch,
                            "zero_stage": stage,
                        }
                        yield runtime.model_copy(update=chosen)

    def gib(self, runtime: Runtime) -> float | None:
        """Return the GPU memory of a worker in GiB; None where the model's size is unknown."""
        if self.shape is None:
            return None
        assert isinstance(runtime.workers, int)
        return training_memory(self.shape, self.recipe, runtime, runtime.workers).gib

    def least_gib(self, workers: int, offloading: bool = True) -> float | None:
        """Return the least GPU memory in GiB that the spec's settings allow with that many workers.

        None where the model's size is unknown. Without `offloading`, `offload: auto` does not
        offload.
        """
        choices = list(self.choices(workers))
        if self.runtime.offload == "auto" and not offloading:
            choices = [each for each in choices if each.offload == "none"]
        sizes = [self.gib(runtime) for runtime in choices]
        known = [size for size in sizes if size is not None]
        return min(known, default=None)


def ladder_kinds(plan: Plan) -> dict[LadderKind, list[str]]:
    """Return the ladders' ids by kind.

    Raises `SpecError` where two models that share their start have a runtime of their own each.
    """
    starts = _starts(plan)
    own = _own_runtimes(plan, starts)
    kinds: dict[LadderKind, list[str]] = {}
    for ladder in plan.ladders:
        name, override = own.get(starts[ladder.parent_id], (ladder.engine, None))
        kind = LadderKind(
            name,
            plan.groups[ladder.engine].shape,
            ladder.stage.recipe,
            plan.spec.training.runtime.of_model(override),
        )
        kinds.setdefault(kind, []).append(ladder.id)
    return kinds


def settle_runtimes(
    kinds: Mapping[LadderKind, Sequence[str]], workers: int, gpu_gib: float | None, gpus: int
) -> dict[str, Runtime]:
    """Return how each ladder is executed, by its id, without any `auto` left.

    `gpu_gib` is the memory that a worker may use, in GiB; None if unknown. `gpus` is the number of
    GPUs of the cluster. Raises `SpecError`, with the nearest settings that fit, where a ladder's
    own do not.
    """
    runtimes: dict[str, Runtime] = {}
    problems: list[str] = []
    for kind, ladders in kinds.items():
        if gpu_gib is None or kind.shape is None:
            chosen = _without_memory(kind, workers)
        else:
            found = _fitting(kind, workers, gpu_gib)
            if found is None:
                problems.append(_refusal(kind, workers, gpu_gib, gpus))
                continue
            chosen = found
        runtimes |= dict.fromkeys(ladders, chosen)
    if problems:
        raise SpecError("\n".join(dict.fromkeys(problems)))
    return runtimes


def worker_gpu_gib(nodes: Sequence[Node], runtime: Runtime) -> float | None:
    """Return the GPU memory of a worker in GiB on the smallest GPU; None if it is unknown.

    Also None for workers without a GPU.
    """
    known = [node.gpu.memory if node.gpu else None for node in nodes if node.gpus]
    share = 1.0 if runtime.gpus_per_worker is None else runtime.gpus_per_worker
    if not known or not share or None in known:
        return None
    return min(1.0, share) * min(each for each in known if each is not None)


def _fitting(kind: LadderKind, workers: int, gpu_gib: float) -> Runtime | None:
    """Return the first of the allowed settings that fits.

    Settings without `auto` may fill the whole GPU: whoever gives them may know better.
    """
    choices = list(kind.choices(workers))
    limit = gpu_gib * (FILLED if len(choices) > 1 else 1.0)
    return next((each for each in choices if (kind.gib(each) or 0.0) <= limit), None)


def _without_memory(kind: LadderKind, workers: int) -> Runtime:
    """Return the settings where nothing is known of the memory."""
    runtime = kind.runtime.model_copy(update={"workers": workers})
    changes: dict[str, Any] = {}
    if runtime.micro_batch == "auto":
        changes["micro_batch"] = MICRO_BATCH
    if runtime.offload == "auto":
        changes["offload"] = "none"
    if runtime.zero_stage == "auto":
        changes["zero_stage"] = 1 if runtime.offload == "optimizer" else 0
    return runtime.model_copy(update=changes)


def _refusal(kind: LadderKind, workers: int, gpu_gib: float, gpus: int) -> str:
    """Return the error for settings that do not fit, with the nearest ones that do."""
    least = kind.least_gib(workers)
    for changes in _nearest(kind, workers, gpus):
        recipe_changes = {k: v for k, v in changes.items() if k == "lora"}
        recipe = kind.recipe.model_copy(update=recipe_changes)
        others = {k: v for k, v in changes.items() if k not in ("lora", "workers")}
        runtime = kind.runtime.model_copy(update=others)
        changed = LadderKind(kind.model, kind.shape, recipe, runtime)
        needs = changed.least_gib(changes.get("workers", workers))
        if needs is not None and needs <= FILLED * gpu_gib:
            advice = f"{_text(changes)} would fit in {needs:.0f} GiB"
            break
    else:
        advice = "no setting of training fits; take GPUs with more memory, or a smaller model"
    given_settings = (kind.runtime.zero_stage, kind.runtime.micro_batch, kind.runtime.offload)
    is_auto = "auto" in given_settings
    offered = f"{gpu_gib:.0f} GiB" + (f", of which auto fills {FILLED:.0%}" if is_auto else "")
    return (
        f"training: {kind.model} needs about {least:.0f} GiB of GPU memory on each of {workers} "
        f"worker(s), which have {offered}; {advice}"
    )


def _nearest(kind: LadderKind, workers: int, gpus: int) -> Iterator[dict[str, Any]]:
    """Yield changes of settings that take less memory, those that cost least first."""
    small: list[dict[str, Any]] = [{}]
    if not kind.runtime.checkpointing:
        small.append({"checkpointing": True})
    given = kind.runtime.micro_batch
    halves = []
    while isinstance(given, int) and given > 1:
        given //= 2
        halves.append(given)
    small += [{**change, "micro_batch": half} for half in halves for change in small[:2]]
    yield from small[1:]
    most = min(gpus, kind.recipe.global_batch)
    partitions = [(workers, stage) for stage in (2, 3)] if workers > 1 else []
    partitions += [(n, 3) for n in (2, 4, 8, 16, 32) if workers < n <= most]
    for count, stage in partitions:
        change: dict[str, Any] = {"workers": count} if count != workers else {}
        for others in small:
            yield {**change, "zero_stage": stage, **others}
    for stage in (2, 3):
        for others in small:
            yield {"offload": "optimizer", "zero_stage": stage, **others}
    if kind.recipe.lora is None:
        for others in small:
            yield {"lora": Lora(rank=LORA_RANK), **others}


def _text(changes: Mapping[str, Any]) -> str:
    """Return changes as they are written in a sweep file."""
    parts = []
    for name, value in changes.items():
        if isinstance(value, Lora):
            parts.append(f"lora: {{rank: {value.rank}}}")
        else:
            parts.append(f"{name}: {str(value).lower() if isinstance(value, bool) else value}")
    return ", ".join(parts)


def _starts(plan: Plan) -> dict[str, str]:
    """Return the start state of every state."""
    starts: dict[str, str] = {}
    for state_id, state in plan.states.items():  # parents before children
        starts[state_id] = state_id if state.parent_id is None else starts[state.parent_id]
    return {**{start: start for start in plan.starts}, **starts}


def _own_runtimes(
    plan: Plan, starts: Mapping[str, str]
) -> dict[str, tuple[str, ModelRuntime | None]]:
    """Return the name and the runtime of the model of each start state."""
    models = {model.name: (i, model) for i, model in enumerate(plan.spec.models)}
    own: dict[str, tuple[int, str, ModelRuntime | None]] = {}
    for point in plan.points:
        i, model = models[point.model]
        first, _, runtime = own.setdefault(starts[point.state_id], (i, model.name, model.runtime))
        if runtime != model.runtime:
            raise SpecError(
                f"models.{max(i, first)}.runtime: differs from that of models.{min(i, first)}, "
                "which has the same weights; the two share their training"
            )
    return {start: (name, runtime) for start, (_, name, runtime) in own.items()}
