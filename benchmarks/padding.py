"""Compares the division into micro batches with equal rows, on real film reviews (IMDb).

    python benchmarks/padding.py --data FOLDER [--steps 4] [--rounds 2] [--before CHECKOUT]

`FOLDER` holds the files of the task `imdb`. The first table counts tokens, for the settings of the
shipped sweep files and others: those computed over the real ones, and the slowest rank's in each
wave, times the ranks, over the real ones, since the ranks wait for each other. "Equal rows" is the
division that came before: sorted by length, dealt to the ranks in turn, with the same number of
rows in each micro batch.

The second table trains one ladder of a model of about 30M parameters on one worker, each time in a
process of its own, the divisions in turn. It uses the trainer as it is and exchanges the division
only. `--before` adds a checkout of an earlier version, with its own trainer. The seconds are those
of the optimiser steps, without start-up and saving; the fastest round counts. CPU seconds vary less
than those of the clock where other work shares the machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import Any

MAX_LENGTH, GLOBAL_BATCH, COUNTED = 512, 20, 200
SETTINGS = ((1, 20), (4, 5), (1, 8), (2, 8), (4, 2))
"""Workers and micro batch; the first two are those of sweeps/tinyllama_tokens.yaml and
sweeps/qwen_scale.yaml."""
WORKERS, MICRO_BATCH = SETTINGS[0]
Divide = Callable[[Sequence[int], int, int], list[list[list[int]]]]


def equal_rows(lengths: Sequence[int], workers: int, micro_batch: int) -> list[list[list[int]]]:
    """Divide as before: the same number of rows in each micro batch, rows dealt to the ranks."""
    by_length = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    per_worker = ceil(GLOBAL_BATCH / workers)
    count = ceil(per_worker / micro_batch)
    rows = ceil(per_worker / count)
    own = [by_length[rank::workers] for rank in range(workers)]
    return [[each[k * rows : (k + 1) * rows] for each in own] for k in range(count)]


def spec_of(data: str, steps: int) -> Any:
    """Return the sweep: one model with random weights, one ladder of `steps` steps."""
    from elastic_ray.spec import Spec
    from elastic_ray.spec.shorthand import expand

    init = {"hidden_size": 512, "layers": 7, "vocabulary": 4096}
    sweep = {
        "sweep": "padding",
        "task": {"name": "imdb", "data": {"path": data}},
        "models": [{"name": "m", "init": init, "pretrain": [GLOBAL_BATCH]}],
        "positive": [steps * GLOBAL_BATCH],
        "negative": [GLOBAL_BATCH],
        "training": {"global_batch": GLOBAL_BATCH, "max_length": MAX_LENGTH},
    }
    return Spec.model_validate(expand(sweep))


def count_tokens(data: str, batches: int = COUNTED) -> None:
    """Print the tokens that each division computes."""
    from elastic_ray.spec import Recipe
    from elastic_ray.tasks.registry import load_task
    from elastic_ray.training.batches import global_batches, tokenize
    from elastic_ray.training.micro_batches import divide

    task = load_task("imdb", {"path": data})
    pool, tokenizer = task.pool("positive"), task.tokenizer(4096)
    recipe = Recipe(global_batch=GLOBAL_BATCH, max_length=MAX_LENGTH)
    chosen = global_batches(len(pool), batches * GLOBAL_BATCH, recipe, seed=0)
    lengths = [
        [len(one.ids) for one in tokenize([pool[i] for i in each], tokenizer, MAX_LENGTH)]
        for each in chosen
    ]
    real = sum(map(sum, lengths))
    print(
        f"{batches} batches of {GLOBAL_BATCH} reviews, {real / batches / GLOBAL_BATCH:.0f} tokens"
    )
    print("| workers | micro batch | division | computed / real | slowest rank / real | steps |")
    print("|---|---|---|---|---|---|")
    ways: dict[str, Divide] = {"equal rows": equal_rows, "least padding": divide}
    for workers, micro_batch in SETTINGS:
        for name, way in ways.items():
            computed = slowest = waves = 0
            for each in lengths:
                for wave in way(each, workers, micro_batch):
                    tokens = [max((each[i] for i in p), default=0) * len(p) for p in wave]
                    computed += sum(tokens)
                    slowest += max(tokens) * workers
                    waves += 1
            print(
                f"| {workers} | {micro_batch} | {name} | {computed / real:.2f} | "
                f"{slowest / real:.2f} | {waves / batches:.1f} |",
                flush=True,
            )


def train(division: str, data: str, steps: int, threads: int) -> None:
    """Train the ladder in this process; print its seconds, tokens and losses as JSON."""
    os.environ.update({"DS_ACCELERATOR": "cpu", "LOCAL_RANK": "0"})
    import torch
    import torch.distributed as dist

    from elastic_ray.plan import plan_sweep
    from elastic_ray.results.store import Results
    from elastic_ray.spec import Runtime
    from elastic_ray.tasks.registry import load_task
    from elastic_ray.training import ladder as ladders
    from elastic_ray.training.job import TrainJob
    from elastic_ray.training.start_states import prepare_start
    from elastic_ray.training.trainer import Trainer

    if division == "equal rows":
        from elastic_ray.training import micro_batches

        micro_batches.divide = equal_rows
    settings = {"path": data}
    plan = plan_sweep(spec_of(data, steps), {"imdb": load_task("imdb", settings)}, {})
    [ladder] = [each for each in plan.ladders if each.stage.kind == "positive"]
    start, how = next(iter(plan.starts.items()))
    # The ladder starts from the random weights: one stage is enough.
    ladder = dataclasses.replace(ladder, parent_id=start)
    torch.set_num_threads(threads)
    seconds, cpu, computed = 0.0, 0.0, 0
    step = Trainer.train_step

    def timed_step(self: Trainer, *args: Any) -> float:
        nonlocal seconds, cpu
        began, used = time.perf_counter(), time.process_time()
        loss = step(self, *args)
        seconds += time.perf_counter() - began
        cpu += time.process_time() - used
        return loss

    def count(module: Any, args: Any) -> None:
        nonlocal computed
        if isinstance(module, torch.nn.Embedding):  # the model has one: its tokens
            computed += args[0].numel()

    os.environ["ELASTIC_RAY_DECLARED_GPUS"] = "1"  # on the CPU, without a Ray Train run
    Trainer.train_step = timed_step  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory(prefix="elastic_ray-padding-") as root:
        dist.init_process_group("gloo", f"file://{root}/store", rank=0, world_size=1)
        prepare_start(root, start, how, "imdb", settings, "padding", plan.lineage(start), None)
        runtime = Runtime(micro_batch=MICRO_BATCH, gpus_per_worker=0)
        job = TrainJob("padding", "padding", root, "imdb", settings, (ladder,), runtime)
        torch.nn.modules.module.register_module_forward_pre_hook(count)
        ladders.LadderTrainer(job, 0, 1, lambda report: None).train_ladder(ladder)
        row = Results(root).state(ladder.rungs[-1].state_id)
    if row is None or row["status"] != "done":
        sys.exit(f"the ladder failed: {row and row['error']}")
    found = {"seconds": seconds, "cpu": cpu, "computed": computed}
    found |= {name: row[name] for name in ("parameters", "tokens", "losses")}
    print(json.dumps(found))


def compare(args: argparse.Namespace) -> None:
    """Train with each division in turn; print the table and the ratios."""
    here = Path(__file__).resolve().parent.parent
    sides = {"equal rows": here, "least padding": here}
    if args.before:
        sides = {"before": Path(args.before).resolve(), **sides}
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, checkout in sides.items():
            own = ["--data", args.data, "--steps", str(args.steps), "--threads", str(args.threads)]
            environment = {**os.environ, "PYTHONPATH": str(checkout)}
            command = [sys.executable, __file__, *own, "--train", name]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                sys.exit(done.stdout + done.stderr)
            rounds[name].append(json.loads(done.stdout.splitlines()[-1]))
    first = rounds["least padding"][0]
    print(
        f"\none worker, micro batch {MICRO_BATCH}: {args.steps} steps, {first['tokens']:,} tokens, "
        f"{first['parameters'] / 1e6:.0f}M parameters, {os.cpu_count()} cores"
    )
    print(
        "| division | computed / real | seconds (CPU) each round | times faster (CPU) | last loss |"
    )
    print("|---|---|---|---|---|")
    base = next(iter(rounds))
    best = {
        key: {name: min(each[key] for each in found) for name, found in rounds.items()}
        for key in ("seconds", "cpu")
    }
    for name, found in rounds.items():
        times = ", ".join(f"{each['seconds']:.1f} ({each['cpu']:.1f})" for each in found)
        ratio, of_cpu = (best[key][base] / best[key][name] for key in ("seconds", "cpu"))
        print(
            f"| {name} | {found[0]['computed'] / found[0]['tokens']:.2f} | {times} | "
            f"{ratio:.2f} ({of_cpu:.2f}) | {found[0]['losses'][-1]:.6f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of train, test and unsupervised files of IMDb")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--before", help="checkout of an earlier version to train with as well")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.data or not Path(args.data).is_dir():
        sys.exit(f"skipped: no IMDb reviews; --data is {args.data!r}, which is no folder")
    if args.train:
        train(args.train, args.data, args.steps, args.threads)
        return
    count_tokens(args.data)
    compare(args)


if __name__ == "__main__":
    main()
