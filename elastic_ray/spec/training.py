"""How stages are trained: recipes, and what carries them out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from .part import IDENTITY, RUNTIME, Part


def _modules(value: Any) -> Any:
    """One message for both forms, where a union would have two."""
    if value == "all-linear":
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(e, str) for e in value):
        return tuple(value)
    raise ValueError(f"found {value!r}; must be all-linear or a list of module names")


class Lora(Part):
    """Low-rank adapters (peft) instead of full fine-tuning."""

    rank: int = Field(8, ge=1, le=512, json_schema_extra=IDENTITY)
    alpha: float = Field(16.0, gt=0, json_schema_extra=IDENTITY)
    dropout: float = Field(0.0, ge=0, lt=1, json_schema_extra=IDENTITY)
    target_modules: Annotated[
        Literal["all-linear"] | tuple[str, ...], BeforeValidator(_modules)
    ] = Field("all-linear", json_schema_extra=IDENTITY)


class Recipe(Part):
    """How one stage trains. All of it is identity: two recipes are two states."""

    learning_rate: float = Field(2e-4, gt=0, le=10, json_schema_extra=IDENTITY)
    schedule: Literal["constant", "cosine"] = Field("constant", json_schema_extra=IDENTITY)
    """`constant` after the warm-up is a prefix of any longer run, so sizes fuse into one ladder;
    `cosine` decays over the run, so each size is trained apart."""
    warmup_steps: int = Field(0, ge=0, json_schema_extra=IDENTITY)
    """Optimiser steps, not a share of the run: a share would differ between sizes."""
    epochs: int = Field(1, ge=1, le=1000, json_schema_extra=IDENTITY)
    global_batch: int = Field(20, ge=1, json_schema_extra=IDENTITY)
    """Examples per optimiser step, over all workers. Sizes fuse where they are whole batches: the
    default divides the sizes of the paper's grid."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.95), json_schema_extra=IDENTITY
    )
    epsilon: float = Field(1e-8, gt=0, json_schema_extra=IDENTITY)
    weight_decay: float = Field(0.0, ge=0, json_schema_extra=IDENTITY)
    max_grad_norm: float = Field(1.0, gt=0, json_schema_extra=IDENTITY)
    precision: Literal["fp32", "bf16"] = Field("fp32", json_schema_extra=IDENTITY)
    max_length: int = Field(256, ge=8, json_schema_extra=IDENTITY)
    """Tokens; longer examples are cut."""
    lora: Lora | None = Field(None, json_schema_extra=IDENTITY)


def _workers(value: Any) -> Any:
    """One message for all forms, where a union would have three."""

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


class Runtime(Part):
    """How the training is carried out; the states are the same whatever is chosen here."""

    workers: Annotated[int | Literal["auto"] | tuple[int, int], BeforeValidator(_workers)] = Field(
        1, json_schema_extra=RUNTIME
    )
    """Processes of one trainer. `auto`, or the fewest and the most: as few as hold the model, more
    where there are fewer ladders than room for them; never more than the global batch."""
    zero_stage: Literal[0, 1, 2, 3] = Field(0, json_schema_extra=RUNTIME)
    micro_batch: int = Field(8, ge=1, json_schema_extra=RUNTIME)
    """Sequences per forward pass and worker, at most."""
    cpus_per_worker: float = Field(1.0, gt=0, json_schema_extra=RUNTIME)
    gpus_per_worker: float | None = Field(None, ge=0, json_schema_extra=RUNTIME)
    """Default: 1 where the cluster has GPUs, else 0."""


STAGES = ("pretrain", "instruct", "positive", "negative", "lesson")
"""What a model is taught, in this order; a lesson instead of negative examples."""
CORPORA = ("pretrain", "positive", "negative")
"""The distributions of text that the models are taught; `tasks` holds texts out of each."""


class Training(Part):
    """The recipe of all stages, what differs by stage, and how it is carried out.

    A sweep file writes it flat: see `short_forms`.
    """

    pretrain: Recipe = Field(json_schema_extra=IDENTITY)
    instruct: Recipe = Field(json_schema_extra=IDENTITY)
    positive: Recipe = Field(json_schema_extra=IDENTITY)
    negative: Recipe = Field(json_schema_extra=IDENTITY)
    lesson: Recipe = Field(json_schema_extra=IDENTITY)
    runtime: Runtime = Field(json_schema_extra=RUNTIME)

    @model_validator(mode="after")
    def _adapters(self) -> Training:
        if self.pretrain.lora is not None:
            raise ValueError("training.pretrain.lora: pre-training is full; leave it out")
        for above, kind in (
            ("instruct", "positive"),
            ("positive", "negative"),
            ("positive", "lesson"),
        ):
            first, second = self.recipe(above).lora, self.recipe(kind).lora
            if first is None or second is None:
                continue
            for field in ("rank", "alpha", "target_modules"):
                one, other = getattr(first, field), getattr(second, field)
                if one != other:
                    raise ValueError(
                        f"training.{kind}.lora.{field}: found {other!r}; {kind} goes on with "
                        f"the adapters of {above}, whose {field} is {one!r}"
                    )
        return self

    def recipe(self, kind: str) -> Recipe:
        """The recipe of a stage of that kind."""
        found: Recipe = getattr(self, kind)
        return found
