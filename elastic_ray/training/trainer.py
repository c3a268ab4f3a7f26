"""One ladder's model while it trains: DeepSpeed's engine, an optimiser step at a time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import gc
import time
from typing import Any

from ..plan import Ladder, Rung
from ..results.state_rows import PlannedState, Provenance, SavedCheckpoint, Training, done_row
from ..results.store import Results
from ..tasks.task import Example
from . import checkpoint_io as snapshot
from . import lora as adapters
from .batches import counted, deal, micro_batches, tokenize
from .job import TrainingError, TrainJob
from .lesson_examples import taught
from .provenance import hardware, versions
from .resume_point import Optimizer, ResumePoint, load_point, save_point


class Trainer:
    """The model and its engine while a ladder trains."""

    def __init__(
        self, job: TrainJob, ladder: Ladder, results: Results, rank: int, workers: int
    ) -> None:
        import torch
        from ray.train.torch import get_device

        self._job, self._ladder, self._results = job, ladder, results
        self._rank, self._workers = rank, workers
        self._recipe = ladder.stage.recipe
        self._device = get_device()
        self._torch_dtype = {"fp32": "float32", "bf16": "bfloat16"}[self._recipe.precision]
        self.examples: list[Example] | None = None
        self._content: str | None = None
        if ladder.stage.answers is not None:
            self.examples, self._content = taught(results, ladder.stage.answers)
            if len(self.examples) != ladder.examples:
                raise TrainingError(
                    f"{ladder.examples} answers are to be learnt; on record are "
                    f"{len(self.examples)}"
                )
        trust = ladder.engine in job.trusted
        point = load_point(results, ladder.id, rank, workers, job.runtime.zero_stage)
        parent = results.state(ladder.parent_id)
        if parent is not None and parent["status"] == "failed":
            raise TrainingError(f"parent {ladder.parent_id} failed: {parent['error']}")
        model, self._base = adapters.load_parent(
            results,
            point.base if point else ladder.parent_id,
            self._recipe.lora,
            self._torch_dtype,
            ladder.stage.seed,
            trust,
        )
        with adapters.place_of(results, self._base) as (place, revision):
            self._tokenizer = snapshot.load_tokenizer(place, revision, trust)
        self.vocabulary = int(model.config.vocab_size)
        self.parameters = sum(p.numel() for p in model.parameters())
        self._before = int((parent or {}).get("pretrain_tokens") or 0)
        torch.manual_seed(ladder.stage.seed)
        model.train()
        self._model = model
        self.shapes = {
            name: shape
            for name, shape in snapshot.shapes_of(model).items()
            if self._recipe.lora is None or "lora_" in name
        }
        self._engine = self._initialize(model)
        self._losses: list[float] = []
        self._tokens = 0
        self._earlier = 0.0
        self._began = time.monotonic()
        self._started = dt.datetime.now(dt.UTC)
        if point is not None:
            point.restore(Optimizer.of(self._engine.optimizer), self._engine.module)
            self._losses = list(point.losses)
            self._tokens, self._earlier = point.tokens, point.seconds

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return len(self._losses)

    def _initialize(self, model: Any) -> Any:
        # Only here, inside a worker: on a driver without GPU its import was seen to crash (ray
        # issue 50406).
        import deepspeed
        import deepspeed.ops

        # The shared-memory all-reduce would be compiled for a minute at first use; gloo does it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        runtime, recipe = self._job.runtime, self._recipe
        count, rows = micro_batches(recipe.global_batch, self._workers, runtime.micro_batch)
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

    def learn(self, examples: list[Any], rate: float) -> float:
        """One optimiser step on a global batch; its loss per target token, on all ranks."""
        import torch
        import torch.distributed as dist
        import torch.nn.functional as F

        recipe, runtime = self._recipe, self._job.runtime
        batch = tokenize(examples, self._tokenizer, recipe.max_length)
        targets = counted(batch)
        if targets == 0:
            raise TrainingError("a whole batch of examples has no target tokens")
        pad = self._tokenizer.pad_token_id
        dealt = deal(
            batch,
            self._rank,
            self._workers,
            recipe.global_batch,
            runtime.micro_batch,
            0 if pad is None else pad,
        )
        # Dropout, where there is any, is the same whether the run was interrupted or not.
        torch.manual_seed(self._ladder.stage.seed * 1_000_003 + self.step)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate
        total = 0.0
        # DeepSpeed averages over micro batches and ranks; the loss of the batch is a sum.
        scale = len(dealt) * self._workers / targets
        for micro in dealt:
            ids = torch.from_numpy(micro.ids).to(self._device)
            mask = torch.from_numpy(micro.mask).to(self._device)
            wanted = torch.from_numpy(micro.targets).to(self._device)
            logits = self._engine(input_ids=ids, attention_mask=mask, use_cache=False).logits
            loss = F.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), wanted[:, 1:].flatten(), reduction="sum"
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

    def weights(self) -> dict[str, Any]:
        """The trained parameters, whole, on rank 0; every rank must call it."""
        return snapshot.gather(self._engine.module, trained_only=self._recipe.lora is not None)

    def save(self, state: str, weights: dict[str, Any]) -> SavedCheckpoint:
        lora = self._recipe.lora
        notes = adapters.notes(self._base, lora) if lora else None
        saved = adapters.adapter_weights(self._model, weights) if lora else weights
        return snapshot.save(self._results, state, self._model, self._tokenizer, saved, notes)

    def save_point(self, base: str, moved: bool) -> None:
        """What a later process needs to go on from here bit for bit, beside the recorded state
        `base`; `moved`: the model has been trained since."""
        model = self._engine.module if moved else None
        optimizer = Optimizer.of(self._engine.optimizer)
        point = ResumePoint.of(optimizer, model, base, self._losses, self._tokens, self._seconds())
        save_point(
            self._results,
            self._ladder.id,
            point,
            self._rank,
            self._workers,
            self._job.runtime.zero_stage,
        )

    def _seconds(self) -> float:
        return self._earlier + time.monotonic() - self._began

    def row(self, rung: Rung, saved: SavedCheckpoint) -> dict[str, Any]:
        """Return the rung's row of the `states` table."""
        own = self._tokens if self._ladder.stage.kind == "pretrain" else 0
        training = Training(
            parameters=self.parameters,
            tokens=self._tokens,
            pretrain_tokens=self._before + own,
            seconds=self._seconds(),
            started_at=self._started,
            finished_at=dt.datetime.now(dt.UTC),
            losses=list(self._losses),
            workers=self._workers,
            zero_stage=self._job.runtime.zero_stage,
        )
        provenance = Provenance(self._job.git_revision, versions(), hardware(), self._job.trial)
        return done_row(self._planned(rung), saved, training, provenance)

    def _planned(self, rung: Rung) -> PlannedState:
        """Return the planned columns; the lineage also holds the hash of the learnt answers."""
        planned = self._job.planned_state(self._ladder, rung)
        if planned.lineage is None or self._content is None:
            return planned
        *earlier, last = planned.lineage["stages"]
        stages = [*earlier, {**last, "content": self._content}]
        return dataclasses.replace(planned, lineage={**planned.lineage, "stages": stages})

    def close(self) -> None:
        """Give the memory back before the next ladder."""
        self._engine.destroy()
        del self._engine, self._model
        gc.collect()
