"""Schema of `training`: the recipes of the stages, and how training is executed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from .part import IDENTITY, RUNTIME, Part


def _modules(value: Any) -> Any:
    # Before validation: pydantic reports one error per member of a union, this reports one.
    if value == "all-linear":
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(e, str) for e in value):
        return tuple(value)
    raise ValueError(f"found {value!r}; must be all-linear or a list of module names")


class Lora(Part):
    """Low-rank adapters (peft) instead of full fine-tuning."""

    rank: int = Field(8, ge=1, le=512, json_schema_extra=IDENTITY)
    """Rank of the adapters."""
    alpha: float = Field(16.0, gt=0, json_schema_extra=IDENTITY)
    """Scale of the adapters: their product is multiplied by `alpha` / `rank`."""
    dropout: float = Field(0.0, ge=0, lt=1, json_schema_extra=IDENTITY)
    """Dropout probability of the adapters' inputs."""
    target_modules: Annotated[
        Literal["all-linear"] | tuple[str, ...], BeforeValidator(_modules)
    ] = Field("all-linear", json_schema_extra=IDENTITY)
    """Modules that get adapters: `all-linear`, or a list of names."""


class Recipe(Part):
    """How one stage trains. Every field is identity: two recipes make two states."""

    learning_rate: float = Field(2e-4, gt=0, le=10, json_schema_extra=IDENTITY)
    """Peak learning rate of AdamW."""
    schedule: Literal["constant", "cosine"] = Field("constant", json_schema_extra=IDENTITY)
    """`constant` after the warm-up makes a run a prefix of any longer run, so sizes fuse into one
    ladder; `cosine` decays over the run, so each size is trained separately."""
    warmup_steps: int = Field(0, ge=0, json_schema_extra=IDENTITY)
    """Length of the linear warm-up in optimiser steps. Not a share of the run, which would differ
    between sizes."""
    epochs: int = Field(1, ge=1, le=1000, json_schema_extra=IDENTITY)
    """Passes over the examples. Sizes fuse into one ladder only with 1."""
    global_batch: int = Field(20, ge=1, json_schema_extra=IDENTITY)
    """Examples per optimiser step, over all workers. Sizes fuse where they are whole batches; the
    default divides the sizes of the paper's grid."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.95), json_schema_extra=IDENTITY
    )
    """AdamW's decay rates of the first and second moment."""
    epsilon: float = Field(1e-8, gt=0, json_schema_extra=IDENTITY)
    """AdamW's term for numerical stability."""
    weight_decay: float = Field(0.0, ge=0, json_schema_extra=IDENTITY)
    """AdamW's decoupled weight decay."""
    max_grad_norm: float = Field(1.0, gt=0, json_schema_extra=IDENTITY)
    """Gradients are clipped to this norm."""
    precision: Literal["fp32", "bf16"] = Field("fp32", json_schema_extra=IDENTITY)
    """Precision of the model's weights and of its forward and backward pass."""
    max_length: int = Field(256, ge=8, json_schema_extra=IDENTITY)
    """Longest example, in tokens; longer ones are truncated."""
    lora: Lora | None = Field(None, json_schema_extra=IDENTITY)
    """Train low-rank adapters with these settings. Default: train all weights."""


def _workers(value: Any) -> Any:
    # Before validation: pydantic reports one error per member of a union, this reports one.

    def number(each: Any) -> bool:
        return type(each) is int and 1 <= each <= 4096

    if value == "auto" or number(value):
        return value
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(map(number, value)):
        low, high = value
        if low <= high:
            return (low, high)
    raise ValueError(
        f"found {value!r}; must be a number from 1 to 4096, auto, or the fewest and the most, "
        "e.g. [1, 8]"
    )


def _auto_or(value: Any, allowed: str, valid: bool) -> Any:
    # Before validation: pydantic reports one error per member of a union, this reports one.
    if value == "auto" or (type(value) is int and valid):
        return value
    raise ValueError(f"found {value!r}; must be {allowed}, or auto")


def _stage(value: Any) -> Any:
    return _auto_or(value, "0, 1, 2 or 3", value in (0, 1, 2, 3))


def _micro_batch(value: Any) -> Any:
    return _auto_or(value, "a number from 1 on", type(value) is int and value >= 1)


ZeroStage = Annotated[Literal[0, 1, 2, 3, "auto"], BeforeValidator(_stage)]
MicroBatch = Annotated[int | Literal["auto"], BeforeValidator(_micro_batch)]
Offload = Literal["none", "optimizer", "auto"]


class ModelRuntime(Part):
    """How the training of one model is executed, where it differs from `training`."""

    zero_stage: ZeroStage | None = Field(None, json_schema_extra=RUNTIME)
    """DeepSpeed ZeRO stage. Default: that of `training`."""
    micro_batch: MicroBatch | None = Field(None, json_schema_extra=RUNTIME)
    """Most sequences per forward pass and worker. Default: that of `training`."""
    checkpointing: bool | None = Field(None, json_schema_extra=RUNTIME)
    """Whether activations are computed again. Default: that of `training`."""
    offload: Offload | None = Field(None, json_schema_extra=RUNTIME)
    """What is kept in the memory of the CPUs. Default: that of `training`."""


class Runtime(Part):
    """How training is executed. The states are the same up to rounding whatever is chosen here."""

    workers: Annotated[int | Literal["auto"] | tuple[int, int], BeforeValidator(_workers)] = Field(
        1, json_schema_extra=RUNTIME
    )
    """Worker processes of one trainer: a number, `auto`, or [fewest, most]. `auto` and a range use
    as few as the model's memory needs, more where there are fewer ladders than trainer slots, and
    never more than the global batch."""
    zero_stage: ZeroStage = Field(0, json_schema_extra=RUNTIME)
    """DeepSpeed ZeRO stage: what is partitioned over the workers. bf16 trains under stage 0 as
    under 1, the first that adds gradients up in float32. `auto` is the lowest that fits."""
    micro_batch: MicroBatch = Field(8, json_schema_extra=RUNTIME)
    """Most sequences per forward pass and worker. `auto` is the largest that fits."""
    checkpointing: bool = Field(False, json_schema_extra=RUNTIME)
    """Whether the activations of a layer are computed again in the backward pass rather than kept.
    Takes about a third more time and a fraction of the memory."""
    offload: Offload = Field("none", json_schema_extra=RUNTIME)
    """`optimizer` keeps AdamW's state in the memory of the CPUs, 12 bytes a parameter, and steps
    there; needs a `zero_stage` above 0. `auto` does so where nothing else fits."""
    cpus_per_worker: float = Field(1.0, gt=0, json_schema_extra=RUNTIME)
    """CPUs reserved for each worker."""
    gpus_per_worker: float | None = Field(None, ge=0, json_schema_extra=RUNTIME)
    """GPUs reserved for each worker. Default: 1 on a cluster with GPUs, else 0."""
    max_untaught: float = Field(0.01, ge=0, le=1, json_schema_extra=RUNTIME)
    """Largest share of a stage's examples that may teach nothing because their prompt alone reaches
    `max_length`. They are counted and shown; a sweep with more of them is refused."""

    @model_validator(mode="after")
    def _offload_needs_partitions(self) -> Runtime:
        if self.offload == "optimizer" and self.zero_stage == 0:
            raise ValueError(
                "zero_stage: found 0 with offload: optimizer, which needs 1, 2, 3 or auto"
            )
        return self

    def stage_of(self, recipe: Recipe) -> int:
        """Return the ZeRO stage that a recipe trains under; `zero_stage` must be a number.

        DeepSpeed's stage 0 adds the gradients of bf16 models up in bf16, so the result would depend
        on the micro batch.
        """
        assert self.zero_stage != "auto", "decided before, by placement.settings"
        return max(self.zero_stage, 1 if recipe.precision == "bf16" else 0)

    def of_model(self, own: ModelRuntime | None) -> Runtime:
        """Return the runtime with the settings that a model has of its own."""
        given = own.model_dump(exclude_none=True) if own else {}
        return Runtime.model_validate({**self.model_dump(), **given}) if given else self


STAGES = ("pretrain", "instruct", "positive", "negative", "lesson")
"""Kinds of stages, in training order. A lesson takes the place of the negative stage."""
CORPORA = ("pretrain", "positive", "negative")
"""Distributions of text that the models are trained on: D1, D2 and D3 of the paper, in this order.
Tasks keep held-out texts of each."""


class Training(Part):
    """The recipe of each stage, and how training is executed.

    In a sweep file it is flat; `shorthand.expand` writes it out to this form.
    """

    pretrain: Recipe = Field(json_schema_extra=IDENTITY)
    """Recipe of pre-training."""
    instruct: Recipe = Field(json_schema_extra=IDENTITY)
    """Recipe of the training on another task (`task.instruct`)."""
    positive: Recipe = Field(json_schema_extra=IDENTITY)
    """Recipe of the aligning stage."""
    negative: Recipe = Field(json_schema_extra=IDENTITY)
    """Recipe of the contrary stage."""
    lesson: Recipe = Field(json_schema_extra=IDENTITY)
    """Recipe of the training on another state's answers (`lessons`)."""
    runtime: Runtime = Field(json_schema_extra=RUNTIME)
    """How training is executed."""

    @model_validator(mode="after")
    def _compatible_adapters(self) -> Training:
        if self.pretrain.lora is not None:
            raise ValueError(
                "training.pretrain.lora: pre-training trains all weights; leave it out"
            )
        for parent, kind in (
            ("instruct", "positive"),
            ("positive", "negative"),
            ("positive", "lesson"),
        ):
            before, after = self.recipe(parent).lora, self.recipe(kind).lora
            if before is None or after is None:
                continue
            for field in ("rank", "alpha", "target_modules"):
                expected, value = getattr(before, field), getattr(after, field)
                if expected != value:
                    raise ValueError(
                        f"training.{kind}.lora.{field}: found {value!r}; {kind} continues "
                        f"the adapters of {parent}, whose {field} is {expected!r}"
                    )
        return self

    def recipe(self, kind: str) -> Recipe:
        """Return the recipe of a stage of that kind (one of `STAGES`)."""
        recipe: Recipe = getattr(self, kind)
        return recipe
