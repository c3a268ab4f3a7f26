"""Trains the model of one ladder, one optimiser step at a time, with a DeepSpeed engine."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import gc
import time
from dataclasses import dataclass
from typing import Any

from ..plan import Ladder, Rung
from ..results.state_rows import PlannedState, Provenance, SavedCheckpoint, Training, done_row
from ..results.store import Results
from ..tasks.task import Example
from . import checkpoint_io, lora
from .batches import count_targets, tokenize
from .deepspeed_config import deepspeed_config
from .device import own_device
from .job import TrainingError, TrainJob
from .lesson_examples import lesson_examples
from .micro_batches import MicroBatch, shard
from .provenance import hardware, versions
from .resume_point import (
    OptimizerShard,
    ResumePoint,
    load_resume_point,
    point_bytes,
    save_resume_point,
)


@dataclass(frozen=True)
class PreparedBatch:
    """A global batch: this rank's micro batches, and the counts of all ranks."""

    micro_batches: list[MicroBatch]
    examples: int
    targets: int
    tokens: int
    lost: tuple[int, int]
    """Examples that were cut, and those of them that lost their whole answer."""


class Trainer:
    """One rank's model, optimiser and history while a ladder trains.

    The constructor loads what this rank needs by itself; `start` sets up DeepSpeed, which every
    rank must do together. Continues from the ladder's newest resume point before step `before`,
    where there is one. The
    constructor raises `TrainingError` if the parent failed or its answers are incomplete,
    `CheckpointError` if the parent's checkpoint is not available, and `ResultsError` if the answers
    are not recorded.
    """

    def __init__(
        self, job: TrainJob, ladder: Ladder, results: Results, rank: int, workers: int, before: int
    ) -> None:
        import torch

        from .loss import LossModel

        self._job, self._ladder, self._results = job, ladder, results
        self._rank, self._workers = rank, workers
        self._recipe = ladder.stage.recipe
        self.runtime = job.runtime_of(ladder)
        """How this ladder is executed."""
        self._zero_stage = self.runtime.stage_of(self._recipe)
        self._device = own_device()
        self.answers: list[Example] | None = None
        """The lesson's examples; None where the stage's examples come from a pool of the task."""
        self._answers_hash: str | None = None
        if ladder.stage.answers is not None:
            self.answers, self._answers_hash = lesson_examples(results, ladder.stage.answers)
            if len(self.answers) != ladder.examples:
                raise TrainingError(
                    f"the lesson has {ladder.examples} answers; {len(self.answers)} are recorded"
                )
        trust = ladder.engine in job.trusted
        self._point = point = load_resume_point(
            results, ladder.id, rank, workers, self._zero_stage, before
        )
        parent = results.state(ladder.parent_id)
        if parent is not None and parent["status"] == "failed":
            raise TrainingError(f"parent {ladder.parent_id} failed: {parent['error']}")
        model, self._base = lora.load_parent(
            results,
            ladder.parent_id,
            self._recipe.lora,
            {"fp32": "float32", "bf16": "bfloat16"}[self._recipe.precision],
            ladder.stage.seed,
            trust,
        )
        with lora.checkpoint_of(results, self._base) as (source, revision):
            self._tokenizer = checkpoint_io.load_tokenizer(source, revision, trust)
        # A tokenizer must not be used by two threads at once, and snapshots are saved by another.
        self._saved_tokenizer = copy.deepcopy(self._tokenizer)
        self.vocabulary_size = int(model.config.vocab_size)
        self._parameters = sum(p.numel() for p in model.parameters())
        self._parent_pretrain_tokens = int((parent or {}).get("pretrain_tokens") or 0)
        self._model = model
        self.shapes = {
            name: shape
            for name, shape in checkpoint_io.parameter_shapes(model).items()
            if self._recipe.lora is None or "lora_" in name
        }
        """Shapes of the tensors that a checkpoint of this ladder holds."""
        self._loss_model = LossModel(model)
        torch.manual_seed(ladder.stage.seed)
        model.train()
        if self.runtime.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self._engine: Any = None
        self._losses: list[float] = []
        self._tokens = 0
        self._seconds_before = 0.0
        """Seconds that earlier processes spent on this ladder."""
        self._began = time.monotonic()
        self._started_at = dt.datetime.now(dt.UTC)
        self._lost = {0: (0, 0)}
        """Examples that were cut, and that lost their whole answer, up to each step."""
        if point is not None:
            self._losses = list(point.losses)
            self._lost = {self.step: point.lost}
            self._tokens, self._seconds_before = point.tokens, point.seconds

    @property
    def step(self) -> int:
        """The number of optimiser steps taken."""
        return len(self._losses)

    def start(self) -> None:
        """Set up DeepSpeed and restore the resume point. Every rank must call it."""
        # Imported inside the worker only: on a driver without GPU the import was seen to crash
        # (ray issue 50406).
        import deepspeed
        import deepspeed.ops

        # The shared-memory all-reduce compiles for a minute at its first use; gloo replaces it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        trainable = [p for p in self._model.parameters() if p.requires_grad]
        self._engine, *_ = deepspeed.initialize(
            model=self._loss_model,
            model_parameters=trainable,
            config=deepspeed_config(self._recipe, self.runtime),
        )
        if self._point is not None:
            optimizer = OptimizerShard.unwrap(self._engine.optimizer)
            self._point.restore(optimizer, self._engine.module)
            self._point = None

    def prepare(self, examples: list[Any]) -> PreparedBatch:
        """Tokenize a global batch and divide it among the ranks. Safe to call in a thread."""
        batch = tokenize(examples, self._tokenizer, self._recipe.max_length)
        cut = [one for one in batch if one.cut]
        pad = self._tokenizer.pad_token_id or 0
        rows = self.runtime.micro_batch
        assert isinstance(rows, int), "decided before, by placement.settings"
        return PreparedBatch(
            shard(batch, self._rank, self._workers, rows, pad),
            len(batch),
            count_targets(batch),
            sum(len(one.ids) for one in batch),
            (len(cut), sum(count_targets([one]) == 0 for one in cut)),
        )

    def train_step(self, batch: PreparedBatch, rate: float) -> float:
        """Take one optimiser step on a global batch at learning rate `rate`.

        Returns the loss per target token over the whole batch, the same on all ranks.
        """
        import torch
        import torch.distributed as dist

        from .step import take_step

        if batch.targets == 0:
            raise TrainingError(
                f"a whole batch of {batch.examples} examples has no target tokens: their prompts "
                f"reach max_length, {self._recipe.max_length} tokens; raise it"
            )
        # A seed of the step makes dropout the same whether the run was interrupted or not.
        torch.manual_seed(self._ladder.stage.seed * 1_000_003 + self.step)
        # DeepSpeed averages over ranks; the loss of the batch is a sum.
        scale = self._workers / batch.targets
        total = take_step(self._engine, batch.micro_batches, scale, rate, self._device)
        if self._workers > 1:
            dist.all_reduce(total)
        # The one point of a step where this process waits for the device, beside DeepSpeed's own.
        cut, untaught = self._lost[self.step]
        self._losses.append(float(total) / batch.targets)
        self._lost[self.step] = (cut + batch.lost[0], untaught + batch.lost[1])
        self._tokens += batch.tokens
        return self._losses[-1]

    def gather_weights(self) -> dict[str, Any]:
        """Return copies of the whole trained parameters on rank 0. Every rank must call it.

        Raises `TrainingError` on rank 0 if they are not finite.
        """
        trained_only = self._recipe.lora is not None
        return checkpoint_io.gather_weights(self._model, trained_only)

    def save_checkpoint(self, state: str, weights: dict[str, Any]) -> SavedCheckpoint:
        """Save gathered weights as a state's checkpoint, on rank 0.

        May run in another thread while the next steps train. Raises `OSError` on a full disk, and
        `TrainingError` if the weights are not those of the model.
        """
        checkpoint_io.check_shapes(weights, self.shapes)
        metadata = None
        if self._recipe.lora is not None:
            metadata = lora.adapter_metadata(self._base, self._recipe.lora)
            weights = lora.adapter_weights(weights)
        return checkpoint_io.save_checkpoint(
            self._results, state, self._model, self._saved_tokenizer, weights, metadata
        )

    def save_resume_point(self) -> None:
        """Save this rank's part of a point from which another process continues bit for bit.

        Raises `ResultsError` on a full disk.
        """
        point = ResumePoint.capture(
            OptimizerShard.unwrap(self._engine.optimizer),
            self._engine.module,
            self._losses,
            self._tokens,
            self._seconds(),
            self._lost[self.step],
        )
        save_resume_point(
            self._results, self._ladder.id, point, self._rank, self._workers, self._zero_stage
        )

    @property
    def point_bytes(self) -> int:
        """The bytes of this rank's part of a resume point."""
        return point_bytes(OptimizerShard.unwrap(self._engine.optimizer), self._engine.module)

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._began

    def training(self) -> Training:
        """Return the measured columns of a state that is the model now."""
        own = self._tokens if self._ladder.stage.kind == "pretrain" else 0
        return Training(
            parameters=self._parameters,
            tokens=self._tokens,
            pretrain_tokens=self._parent_pretrain_tokens + own,
            seconds=self._seconds(),
            started_at=self._started_at,
            finished_at=dt.datetime.now(dt.UTC),
            losses=list(self._losses),
            workers=self._workers,
            zero_stage=self._zero_stage,
        )

    def state_row(self, rung: Rung, training: Training, saved: SavedCheckpoint) -> dict[str, Any]:
        """Return the rung's row of the `states` table; `training` was taken at the rung."""
        provenance = Provenance(self._job.git_revision, versions(), hardware(), self._job.trial)
        planned = self._planned_state(rung, len(training.losses or ()))
        return done_row(planned, saved, training, provenance)

    def _planned_state(self, rung: Rung, step: int) -> PlannedState:
        """Return the planned columns; the lineage's last stage also says what was learnt from.

        `content` is the hash of a lesson's answers; `cut` counts the examples that lost their end,
        and `untaught` those of them that lost their whole answer, where there are any.
        """
        planned = self._job.planned_state(self._ladder, rung)
        if planned.lineage is None:
            return planned
        cut, untaught = self._lost[step]
        learnt = {
            **({"content": self._answers_hash} if self._answers_hash is not None else {}),
            **({"cut": cut, "untaught": untaught} if cut else {}),
        }
        *earlier, last = planned.lineage["stages"]
        lineage = {**planned.lineage, "stages": [*earlier, {**last, **learnt}]}
        return dataclasses.replace(planned, lineage=lineage)

    def close(self) -> None:
        """Release the model's memory before the next ladder."""
        import torch

        if self._engine is not None:
            self._engine.destroy()
        del self._engine, self._loss_model, self._model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
