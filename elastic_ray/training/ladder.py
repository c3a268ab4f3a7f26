"""One ladder, inside the workers of a Ray Train run: parent's weights in, snapshots out.

Every rank runs `Climber.climb`. Each ladder starts from its parent's *saved* weights with a fresh
optimiser, also when both ran in this process (design, rule 3). After a rung: weights saved, then
the state recorded, then reported. A ladder that cannot go on is recorded as failed, rung by rung,
and the next one begins; ranks agree on it first, so that none waits for another.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ..checkpoints import CheckpointError
from ..plan import Ladder, Rung
from ..results import Results, ResultsError
from ..tasks import Task, load_task
from . import adapters, snapshot
from .batches import counted, deal, learning_rate, micro_batches, order, steps, tokenize
from .resume_point import ResumePoint, load_point, remove_point, save_point
from .values import TrainingError, TrainJob
from .versions import hardware, versions

PATIENCE = 20
"""Steps in a row with a loss above `HOPELESS` x log(vocabulary) after which a ladder diverged."""
HOPELESS = 2.0
CHECKS = 50
"""Times per ladder, at least, that several ranks agree whether a report is due; one just looks."""
REPORT_EVERY = 0.5
"""Seconds between reports: Ray Train takes one per poll, and makes a quicker worker wait."""

Report = Callable[[dict[str, Any]], None]


class Climber:
    """Walks ladders on this rank. `report` is called by all ranks in step; rank 0's words count."""

    def __init__(self, job: TrainJob, rank: int, workers: int, report: Report) -> None:
        self._job, self._rank, self._workers, self._report = job, rank, workers, report
        self._results = Results(job.results)
        self._done: list[str] = []
        self._failed: dict[str, str] = {}
        self._reported = time.monotonic()
        self._worked = 0.0
        self._task: Task = load_task(job.task, job.data)

    def climb(self, ladder: Ladder) -> None:
        """Train one ladder to its last rung, or record why not."""
        began = time.monotonic()
        self._climb(ladder)
        self._worked += time.monotonic() - began

    def _climb(self, ladder: Ladder) -> None:
        done = self._recorded(ladder)
        self._done += done
        left = [rung for rung in ladder.rungs if rung.state_id not in done]
        if not left:
            return
        run = None
        error = None
        try:
            run = _Run(self._job, ladder, self._results, self._rank, self._workers)
        except (CheckpointError, TrainingError, ResultsError, OSError, ValueError) as e:
            error = f"{type(e).__name__}: {e}"
        error = self._agree(error)
        if error is None and run is not None:
            error = self._walk(run, ladder, {rung.state_id for rung in left})
        if run is not None:
            run.close()
        if error is not None:
            self._give_up(ladder, error)

    def _recorded(self, ladder: Ladder) -> list[str]:
        """Rungs that are done, with their checkpoint where it is wanted."""
        done = []
        for rung in ladder.rungs:
            row = self._results.state(rung.state_id)
            if row is None or row["status"] != "done":
                continue
            if row["checkpoint"] is not None or rung.state_id not in self._job.remade:
                done.append(rung.state_id)
        return done

    def _walk(self, run: _Run, ladder: Ladder, wanted: set[str]) -> str | None:
        """Take every step; returns the error that ended it early, on all ranks the same."""
        recipe = ladder.stage.recipe
        total = steps(ladder.examples, recipe)
        rungs = {steps(rung.examples, recipe): rung for rung in ladder.rungs}
        every = 1 if self._workers == 1 else max(1, total // CHECKS)
        pool = self._task.pool(ladder.stage.pool)
        batches = order(len(pool), ladder.examples, recipe, ladder.stage.seed)
        above: deque[bool] = deque(maxlen=PATIENCE)
        for step, chosen in enumerate(batches):
            if step < run.step:
                continue
            loss = run.learn([pool[i] for i in chosen], learning_rate(step, total, recipe))
            above.append(loss > HOPELESS * math.log(run.vocabulary))
            if not math.isfinite(loss) or (len(above) == PATIENCE and all(above)):
                return (
                    f"diverged at step {step + 1} of {total}: loss {loss:g}, learning rate "
                    f"{recipe.learning_rate:g}; a lower learning_rate or a warm-up may help"
                )
            rung = rungs.get(step + 1)
            if rung is not None:
                error = self._agree(self._take(run, ladder, rung, rung.state_id in wanted))
                if error is not None:
                    return error
                self._done.append(rung.state_id)
            if rung is not None or (step + 1) % every == 0:
                self.tell(self._progress(ladder, step + 1))
        return None

    def tell(self, words: Mapping[str, Any], at_once: bool = False) -> None:
        """Report what is done and failed since the last report, if that is a while ago."""
        due = at_once or time.monotonic() - self._reported > REPORT_EVERY
        if self._workers > 1 and not at_once:
            due = self._agree("due" if due and self._rank == 0 else None) is not None
        if due:
            # "done" would tell Tune that the trial is.
            failed = list(self._failed.items())
            said = {**words, "recorded": self._done, "failed": failed, "worked": self._worked}
            self._report(said)
            self._done, self._failed, self._reported = [], {}, time.monotonic()

    def _progress(self, ladder: Ladder, step: int) -> dict[str, Any]:
        examples = min(ladder.examples, step * ladder.stage.recipe.global_batch)
        words = (
            f"training {ladder.stage.kind} {examples:,}/{ladder.examples:,} "
            f"from {ladder.parent_id[:8]} (seed {ladder.stage.seed})"
        )
        return {"ladder": ladder.id, "examples": examples, "words": words}

    def _take(self, run: _Run, ladder: Ladder, rung: Rung, wanted: bool) -> str | None:
        """Save and record a rung; the error in words, if it cannot be."""
        try:
            weights = run.weights()
            if self._rank == 0 and wanted:
                snapshot.check_weights(weights, run.shapes)
                saved = run.save(rung.state_id, weights)
                if rung.state_id in self._job.remade:
                    self._results.restore_checkpoint(
                        rung.state_id, saved["checkpoint"], saved["checksum"]
                    )
                else:
                    self._results.write("states", [{**run.row(rung), **saved}])
            if rung is not ladder.rungs[-1]:
                run.save_point(rung.state_id)
            elif self._rank == 0:
                remove_point(self._results, ladder.id)
        except (TrainingError, ResultsError, OSError) as e:
            text = str(e)
            return text if text.startswith("diverged") else f"{type(e).__name__}: {text}"
        return None

    def _agree(self, error: str | None) -> str | None:
        """The first rank's error, on every rank."""
        if self._workers == 1:
            return error
        import torch.distributed as dist

        said: list[str | None] = [None] * self._workers
        dist.all_gather_object(said, error)
        return next((each for each in said if each is not None), None)

    def _give_up(self, ladder: Ladder, error: str) -> None:
        """Record and report what is left of a ladder as failed."""
        for rung in ladder.rungs:
            row = self._results.state(rung.state_id)
            if row is not None and row["status"] == "done" and row["checkpoint"] is not None:
                continue
            self._failed[rung.state_id] = error
            if self._rank == 0 and (row is None or row["status"] == "failed"):
                bad = {
                    "state_id": rung.state_id,
                    "parent_id": ladder.parent_id,
                    "kind": ladder.stage.kind,
                    "examples": rung.examples,
                    "lineage": self._job.lineage.get(rung.state_id),
                    "status": "failed",
                    "error": error,
                    "sweep": self._job.sweep,
                    "trial": self._job.trial,
                    "versions": versions(),
                    "git_revision": self._job.git_revision,
                }
                # Where the disk is full, only the report can tell.
                with contextlib.suppress(ResultsError, OSError):
                    self._results.write("states", [bad])
        self.tell({})


class _Run:
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
        trust = ladder.engine in job.trusted
        point = load_point(results, ladder.id, rank, workers, job.runtime.zero_stage)
        parent = results.state(ladder.parent_id)
        if parent is not None and parent["status"] == "failed":
            raise TrainingError(f"parent {ladder.parent_id} failed: {parent['error']}")
        model, self._base = adapters.load_parent(
            results,
            point.state_id if point else ladder.parent_id,
            self._recipe.lora,
            self._torch_dtype,
            ladder.stage.seed,
            trust,
        )
        place, revision = adapters.place_of(results, self._base)
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
            point.restore(self._inner())
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

    def save(self, state: str, weights: dict[str, Any]) -> dict[str, Any]:
        lora = self._recipe.lora
        notes = adapters.notes(self._base, lora) if lora else None
        saved = adapters.adapter_weights(self._model, weights) if lora else weights
        return snapshot.save(self._results, state, self._model, self._tokenizer, saved, notes)

    def save_point(self, state: str) -> None:
        """What a later process needs to go on from this rung bit for bit."""
        point = ResumePoint.of(self._inner(), state, self._losses, self._tokens, self._seconds())
        save_point(
            self._results,
            self._ladder.id,
            point,
            self._rank,
            self._workers,
            self._job.runtime.zero_stage,
        )

    def _inner(self) -> Any:
        """The torch optimiser at the bottom of DeepSpeed's wrappers."""
        optimizer = self._engine.optimizer
        while hasattr(optimizer, "optimizer"):
            optimizer = optimizer.optimizer
        return optimizer

    def _seconds(self) -> float:
        return self._earlier + time.monotonic() - self._began

    def row(self, rung: Rung) -> dict[str, Any]:
        """The rung's row of the `states` table, but for its checkpoint."""
        stage, runtime = self._ladder.stage, self._job.runtime
        own = self._tokens if stage.kind == "pretrain" else 0
        return {
            "state_id": rung.state_id,
            "parent_id": self._ladder.parent_id,
            "kind": stage.kind,
            "examples": rung.examples,
            "lineage": self._job.lineage.get(rung.state_id),
            "status": "done",
            "parameters": self.parameters,
            "tokens": self._tokens,
            "pretrain_tokens": self._before + own,
            "losses": list(self._losses),
            "final_loss": self._losses[-1],
            "seconds": self._seconds(),
            "workers": self._workers,
            "zero_stage": runtime.zero_stage,
            "sweep": self._job.sweep,
            "trial": self._job.trial,
            "versions": versions(),
            "hardware": hardware(),
            "git_revision": self._job.git_revision,
            "started_at": self._started,
            "finished_at": dt.datetime.now(dt.UTC),
        }

    def close(self) -> None:
        """Give the memory back before the next ladder."""
        self._engine.destroy()
        del self._engine, self._model
        gc.collect()


def walk(config: Mapping[str, Any]) -> None:
    """The train function of each Ray Train worker: all ladders of the job, in order."""
    import deepspeed  # noqa: F401
    import ray.train
    import torch

    gc.freeze()  # the libraries: no collection after a ladder need walk them
    job: TrainJob = config["job"]
    torch.set_num_threads(math.ceil(job.runtime.cpus_per_worker))
    context = ray.train.get_context()
    climber = Climber(
        job, context.get_world_rank(), context.get_world_size(), lambda said: ray.train.report(said)
    )
    for ladder in job.ladders:
        climber.climb(ladder)
    climber.tell({}, at_once=True)
