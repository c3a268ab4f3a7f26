"""Shows where the time of one ladder and of one engine goes, each part beside its limit.

    python benchmarks/parts.py [--layers 6] [--steps 4 8 20 40] [--quick] [--ladder-only]

Trains one ladder of bf16 on random weights, by the sweep's own `LadderTrainer`, in this process.
The model has a width of 2,048; 6 layers are 308M parameters and need 6 GB of memory, 18 layers are
925M and need 17 GB. `--quick` takes 4 layers of width 256. The rungs are after the steps given: a
12.5th of those of the shipped sweeps (1,000, 2,000, 5,000 and 10,000 examples in batches of 20).
A step has 8 short reviews where those have 20 long ones, because it runs on a CPU. The share of
steps in the wall-clock time therefore holds for this ladder only; the last line says for how many
seconds a ladder must step so that the share is 90%.

Then one vLLM engine (`parts_engine.py`) starts on the first rung's checkpoint, swaps between it and
the last one's, and answers.

The limits are measured before: copying in memory, writing a file (to the page cache, as a
checkpoint is; a resume point is flushed), SHA-256, and a product of matrices.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import hashlib
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ |= {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": "0"}

import parts_engine
import ray.train.torch
import torch
from transformers import AutoModelForCausalLM

from elastic_ray.plan import Ladder, plan_sweep
from elastic_ray.results.state_rows import PlannedState, Provenance, Training, done_row
from elastic_ray.results.store import Results
from elastic_ray.serving.engines.vllm_runtime import vllm_environment
from elastic_ray.serving.types import Weights
from elastic_ray.spec import Init, Runtime, Spec
from elastic_ray.spec.shorthand import expand
from elastic_ray.tasks.registry import load_task
from elastic_ray.training import checkpoint_io, lora, trainer
from elastic_ray.training.job import TrainJob
from elastic_ray.training.ladder import LadderTrainer
from elastic_ray.training.snapshot_writer import SnapshotWriter
from elastic_ray.training.start_states import model_config

BATCH = 8
SECONDS: dict[str, list[float]] = defaultdict(list)
"""Seconds of each call, by part."""


def timed(owner: Any, name: str, part: str) -> None:
    """Record the seconds of each call of a function under `part`."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return original(*arguments, **named)
        finally:
            SECONDS[part].append(time.perf_counter() - began)

    setattr(owner, name, wrapped)


def best(work: Callable[[], object], times: int = 3) -> float:
    """Return the shortest of several durations, in seconds."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def limits(root: Path) -> dict[str, float]:
    """Return the machine's speeds now: bytes per second, and FLOP per second of bf16."""
    data = torch.randint(0, 255, (2**28,), dtype=torch.uint8)
    block, path = data.numpy().data, root / "speed"

    def write(flush: bool) -> None:
        with path.open("wb") as file:
            file.write(block)
            if flush:
                file.flush()
                os.fsync(file.fileno())

    factor = torch.randn(2048, 2048, dtype=torch.bfloat16)
    found = {
        "copy": len(block) / best(data.clone),
        "write": len(block) / best(lambda: write(False)),
        "flushed write": len(block) / best(lambda: write(True)),
        "hash": len(block) / best(lambda: hashlib.sha256(block)),
        "flop": 2 * 2048**3 / best(lambda: factor @ factor),
    }
    path.unlink()
    return found


def prepare(root: Path, init: Init, steps: list[int]) -> tuple[Ladder, TrainJob, int]:
    """Record a parent state of random bf16 weights; return its ladder, job and parameters."""
    results, task = Results(root), load_task("reviews")
    spec = {
        "sweep": "parts",
        "task": "reviews",
        "models": [{"name": "m", "init": init.model_dump(exclude_none=True), "pretrain": [BATCH]}],
        "positive": [BATCH * step for step in steps],
        "negative": [BATCH],
        "training": {"global_batch": BATCH, "precision": "bf16", "learning_rate": 1e-5},
    }
    plan = plan_sweep(Spec.model_validate(expand(spec)), {"reviews": task}, {})
    start = next(iter(plan.starts))
    ladder = next(each for each in plan.ladders if each.stage.kind == "positive")
    ladder = replace(ladder, parent_id=start)
    tokenizer = task.tokenizer(None)
    model = AutoModelForCausalLM.from_config(model_config(init, tokenizer)).to(torch.bfloat16)
    weights = checkpoint_io.gather_weights(model, trained_only=False)
    saved = checkpoint_io.save_checkpoint(results, start, model, tokenizer, weights)
    parameters, now = sum(p.numel() for p in model.parameters()), dt.datetime.now(dt.UTC)
    planned = PlannedState(start, None, "start", 0, plan.lineage(start), "parts")
    training = Training(parameters, 0, 0, 0.0, now, now)
    results.write("states", [done_row(planned, saved, training, Provenance())])
    runtime = Runtime(micro_batch=BATCH, gpus_per_worker=0)
    lineage = {rung.state_id: plan.lineage(rung.state_id) for rung in ladder.rungs}
    job = TrainJob("parts", "t", str(root), "reviews", {}, (ladder,), runtime, lineage)
    return ladder, job, parameters


def train(job: TrainJob, ladder: Ladder) -> tuple[float, int]:
    """Train the ladder; return its wall-clock seconds, and the bytes of a resume point.

    A point is written once, after the ladder and not counted in its time.
    """
    # The real one asks Ray Train, which does not run here.
    ray.train.torch.get_device = lambda: torch.device("cpu")
    timed(lora, "load_parent", "load")
    timed(trainer.Trainer, "start", "optimiser")
    timed(trainer.Trainer, "train_step", "step")
    timed(trainer.Trainer, "gather_weights", "snapshot, blocking")
    timed(trainer.Trainer, "save_checkpoint", "snapshot, behind")
    timed(SnapshotWriter, "wait", "wait for a snapshot")
    close, size = trainer.Trainer.close, []

    def close_after_a_point(self: trainer.Trainer) -> None:
        size.append(self.point_bytes)
        began = time.perf_counter()
        self.save_resume_point()
        SECONDS["point"].append(time.perf_counter() - began)
        timed_close(self)

    def timed_close(self: trainer.Trainer) -> None:
        began = time.perf_counter()
        close(self)
        SECONDS["close"].append(time.perf_counter() - began)

    trainer.Trainer.close = close_after_a_point  # type: ignore[method-assign]
    failed: dict[str, str] = {}
    runner = LadderTrainer(job, 0, 1, lambda report: failed.update(report["failed"]))
    began = time.perf_counter()
    runner.train_ladder(ladder)
    wall = time.perf_counter() - began - SECONDS["point"][0]
    if failed:
        raise SystemExit(f"the ladder failed: {failed}")
    return wall, size[0]


def weights_of(results: Path, row: dict[str, Any]) -> Weights:
    """Return where a recorded state's weights are."""
    return Weights(row["state_id"], str(results / row["checkpoint"]), None, row["checksum"])


def show(
    wall: float, point: int, parameters: int, rows: list[dict[str, Any]], speed: dict[str, float]
) -> None:
    """Print the table of parts and the shares."""
    rungs, weights = len(rows), 2 * parameters
    tokens = max(row["tokens"] for row in rows)
    limit = {
        "load": weights / speed["copy"],
        "step": 6 * parameters * tokens / speed["flop"],
        "snapshot, blocking": rungs * weights / speed["copy"],
        "snapshot, behind": rungs * (weights / speed["write"] + weights / speed["hash"]),
        "point": point / speed["flushed write"],
    }
    print(f"{parameters / 1e6:.0f}M parameters, {rungs} rungs, {tokens} tokens in the steps")
    print("speeds: " + ", ".join(f"{name} {each / 1e9:.3g} G/s" for name, each in speed.items()))
    print(f"{'part':<22}{'calls':>6}{'seconds':>10}{'limit':>10}{'share of wall':>16}")
    for part, took in SECONDS.items():
        inside = part not in ("snapshot, behind", "point")
        share = f"{sum(took) / wall:.1%}" if inside else "beside"
        bound = f"{limit[part]:.2f}" if part in limit else "-"
        print(f"{part:<22}{len(took):>6}{sum(took):>10.2f}{bound:>10}{share:>16}")
    steps = sum(SECONDS["step"])
    print(
        f"wall {wall:.1f} s; steps {steps:.1f} s, median {statistics.median(SECONDS['step']):.2f}"
    )
    print(f"in steps: {steps / wall:.1%} of the wall-clock time")
    before = wall + sum(SECONDS["snapshot, behind"]) - sum(SECONDS["wait for a snapshot"])
    before += (rungs - 1) * SECONDS["point"][0]
    print(f"with the same parts in turn and a point after each rung: {steps / before:.1%}")
    print(f"a ladder that steps for {9 * (wall - steps):.0f} s or more is 90% steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 20, 40])
    parser.add_argument("--quick", action="store_true", help="4 layers of width 256")
    parser.add_argument("--ladder-only", action="store_true", help="start no engine")
    args = parser.parse_args()
    init = Init(hidden_size=2048, layers=args.layers, heads=16, intermediate_size=5632)
    if args.quick:
        init = Init(hidden_size=256, layers=4)
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix="elastic_ray-parts-") as folder:
        root = Path(folder)
        speed = limits(root)
        ladder, job, parameters = prepare(root / "results", init, sorted(args.steps))
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{root}/rendezvous", rank=0, world_size=1
        )
        wall, point = train(job, ladder)
        rows = [Results(root / "results").state(rung.state_id) for rung in ladder.rungs]
        show(wall, point, parameters, [row for row in rows if row], speed)
        torch.distributed.destroy_process_group()
        if not args.ladder_only:
            states = [weights_of(root / "results", row) for row in (rows[0], rows[-1]) if row]
            os.environ |= {"ELASTIC_RAY_COPIES": str(root / "cache")}
            os.environ |= vllm_environment(parts_engine.config_of(states[0]), os.cpu_count() or 1)
            parts_engine.show(parts_engine.serve(states), parameters, speed)


if __name__ == "__main__":
    main()
