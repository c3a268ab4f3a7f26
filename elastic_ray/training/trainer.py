"""Trains the model of one ladder, one optimiser step at a time, with a DeepSpeed engine."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import gc
import time
from typing import Any

from ..plan import Ladder, Rung
from ..results.state_rows import PlannedState, Provenance, SavedCheckpoint, Training, done_row
from ..results.store import Results
from ..tasks.task import Example
from . import checkpoint_io, lora
from .batches import count_targets, micro_batch_shape, shard, tokenize
from .job import TrainingError, TrainJob
from .lesson_examples import lesson_examples
from .provenance import hardware, versions
from .resume_point import (
    OptimizerShard,
    ResumePoint,
    load_resume_point,
    point_bytes,
    save_resume_point,
)


class Trainer:
    """One rank's model, optimiser and history while a ladder trains.

    Continues from the ladder's newest resume point before step `before`, where there is one. The
    constructor raises `TrainingError` if the parent failed or its answers are incomplete,
    `CheckpointError` if the parent's checkpoint is not available, and `ResultsError` if the answers
    are not recorded.
    """

    def __init__(
        self, job: TrainJob, ladder: Ladder, results: Results, rank: int, workers: int, before: int
    ) -> None:
        import torch
        from ray.train.torch import get_device

        self._job, self._ladder, self._results = job, ladder, results
        self._rank, self._workers = rank, workers
        self._recipe = ladder.stage.recipe
        self._device = get_device()
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
        point = load_resume_point(results, ladder.id, rank, workers, job.runtime.zero_stage, before)
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
        torch.manual_seed(ladder.stage.seed)
        model.train()
        self._model = model
        self.shapes = {
            name: shape
            for name, shape in checkpoint_io.parameter_shapes(model).items()
            if self._recipe.lora is None or "lora_" in name
        }
        """Shapes of the tensors that a checkpoint of this ladder holds."""
        self._engine = self._start_engine(model)
        self._losses: list[float] = []
        self._tokens = 0
        self._seconds_before = 0.0
        """Seconds that earlier processes spent on this ladder."""
        self._began = time.monotonic()
        self._started_at = dt.datetime.now(dt.UTC)
        if point is not None:
            point.restore(OptimizerShard.unwrap(self._engine.optimizer), self._engine.module)
            self._losses = list(point.losses)
            self._tokens, self._seconds_before = point.tokens, point.seconds

    @property
    def step(self) -> int:
        """The number of optimiser steps taken."""
        return len(self._losses)

    def _start_engine(self, model: Any) -> Any:
        # Imported inside the worker only: on a driver without GPU the import was seen to crash
        # (ray issue 50406).
        import deepspeed
        import deepspeed.ops

        # The shared-memory all-reduce compiles for a minute at its first use; gloo replaces it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        runtime, recipe = self._job.runtime, self._recipe
        count, rows = micro_batch_shape(recipe.global_batch, self._workers, runtime.micro_batch)
        optimizer = {
            "lr": recipe.learning_rate,
            "betas": list(recipe.betas),
            "eps": recipe.epsilon,
            "weight_decay": recipe.weight_decay,
            "torch_adam": True,
            "adam_w_mode": True,
        }
        config = {
            "train_micro_batch_size_per_gpu": rows,
            "gradient_accumulation_steps": count,
            "gradient_clipping": recipe.max_grad_norm,
            "optimizer": {"type": "AdamW", "params": optimizer},
            "zero_optimization": {"stage": runtime.zero_stage},
            "bf16": {"enabled": recipe.precision == "bf16"},
            "steps_per_print": 10**9,
            "wall_clock_breakdown": False,
        }
        trainable = [p for p in model.parameters() if p.requires_grad]
        engine, *_ = deepspeed.initialize(model=model, model_parameters=trainable, config=config)
        return engine

    def train_step(self, examples: list[Any], rate: float) -> float:
        """Take one optimiser step on a global batch at learning rate `rate`.

        Returns the loss per target token over the whole batch, the same on all ranks.
        """
        import torch
        import torch.distributed as dist
        import torch.nn.functional as F

        recipe, runtime = self._recipe, self._job.runtime
        batch = tokenize(examples, self._tokenizer, recipe.max_length)
        targets = count_targets(batch)
        if targets == 0:
            raise TrainingError("a global batch has no target tokens")
        pad = self._tokenizer.pad_token_id
        micro_batches = shard(
            batch,
            self._rank,
            self._workers,
            recipe.global_batch,
            runtime.micro_batch,
            0 if pad is None else pad,
        )
        # A seed of the step makes dropout the same whether the run was interrupted or not.
        torch.manual_seed(self._ladder.stage.seed * 1_000_003 + self.step)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate
        total = 0.0
        # DeepSpeed averages over micro batches and ranks; the loss of the batch is a sum.
        scale = len(micro_batches) * self._workers / targets
        for micro_batch in micro_batches:
            ids = torch.from_numpy(micro_batch.ids).to(self._device)
            mask = torch.from_numpy(micro_batch.mask).to(self._device)
            expected = torch.from_numpy(micro_batch.targets).to(self._device)
            logits = self._engine(input_ids=ids, attention_mask=mask, use_cache=False).logits
            loss = F.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), expected[:, 1:].flatten(), reduction="sum"
            )
            self._engine.backward(loss * scale)
            self._engine.step()
            total += float(loss.detach())
        if self._workers > 1:
            summed = torch.tensor([total], dtype=torch.float64, device=self._device)
            dist.all_reduce(summed)
            total = float(summed)
        self._losses.append(total / targets)
        self._tokens += sum(len(tokens.ids) for tokens in batch)
        return self._losses[-1]

    def gather_weights(self) -> dict[str, Any]:
        """Return copies of the whole trained parameters on rank 0. Every rank must call it.

        Raises `TrainingError` on rank 0 if they are not finite.
        """
        trained_only = self._recipe.lora is not None
        return checkpoint_io.gather_weights(self._engine.module, trained_only)

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
        zero_stage = self._job.runtime.zero_stage
        point = ResumePoint.capture(
            OptimizerShard.unwrap(self._engine.optimizer),
            self._engine.module,
            self._losses,
            self._tokens,
            self._seconds(),
        )
        save_resume_point(
            self._results, self._ladder.id, point, self._rank, self._workers, zero_stage
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
            zero_stage=self._job.runtime.zero_stage,
        )

    def state_row(self, rung: Rung, training: Training, saved: SavedCheckpoint) -> dict[str, Any]:
        """Return the rung's row of the `states` table; `training` was taken at the rung."""
        provenance = Provenance(self._job.git_revision, versions(), hardware(), self._job.trial)
        return done_row(self._planned_state(rung), saved, training, provenance)

    def _planned_state(self, rung: Rung) -> PlannedState:
        """Return the planned columns; a lesson's lineage also holds the hash of its answers."""
        planned = self._job.planned_state(self._ladder, rung)
        if planned.lineage is None or self._answers_hash is None:
            return planned
        *earlier, last = planned.lineage["stages"]
        stages = [*earlier, {**last, "content": self._answers_hash}]
        return dataclasses.replace(planned, lineage={**planned.lineage, "stages": stages})

    def close(self) -> None:
        """Release the model's memory before the next ladder."""
        import torch

        self._engine.destroy()
        del self._engine, self._model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
