"""Measures training on one GPU: speed, memory against the prediction, loading and saving.

    python benchmarks/gpu.py [--minutes 8] [--small] [--only 1b 3b 7b]

Runs the trainer's own step (`elastic_ray.training.step`), loss, micro batches, DeepSpeed settings,
snapshots and resume points, on random weights in the shapes of models of 1B, 3B and 7B parameters.
It needs torch, transformers, pydantic and pyarrow; no network, Ray, vLLM or results. Where
DeepSpeed is missing it says so and steps a plain AdamW that holds the same values; then offloading
is left out. Where peft is missing, LoRA is. Cases for which no time is left are skipped, by name.
`--small` takes models of some hundred thousand parameters and few steps, and runs on CPUs as well.

A batch is 20 examples whose lengths are spread like those of IMDb reviews cut at 512 tokens. Cases:

- by length: micro batches as a sweep makes them; equal: rows in the order of the batch, padded to
  the longest; packed: rows of 512 tokens without padding, attention kept apart by position ids
- checkpointing; whole logits: cross-entropy over all tokens at once; again: a second ladder in the
  same process
- LoRA; offload: AdamW's state in the memory of the CPUs

The FLOP of a step are 6 x parameters x real tokens (LoRA 4 x), recomputation and padding left out.
The peak is that of a product of large bf16 matrices here and now.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from gpu_ladder import DEVICE, NAMES, ON_GPU, Case, Ladder, shape_named

from elastic_ray.results.storage.folder import Folder
from elastic_ray.training import checkpoint_io
from elastic_ray.training.resume_point import OptimizerShard, ResumePoint, save_resume_point

CASES = (
    Case("1b", "by length", saves=True),
    Case("1b", "again"),
    Case("1b", "equal", division="equal"),
    Case("1b", "packed", division="packed"),
    Case("1b", "checkpointing", checkpointing=True),
    Case("1b", "whole logits", whole_logits=True),
    Case("7b", "LoRA", lora=True),
    Case("7b", "LoRA, checkpointing", lora=True, checkpointing=True),
    Case("3b", "by length"),
    Case("3b", "checkpointing", checkpointing=True, saves=True),
    Case("7b", "offload", offload=True, checkpointing=True),
)
"""In the order of their use, should time run out."""


def deepspeed_or_none() -> Any:
    """Return DeepSpeed, set up for one process; None, said aloud, where it is missing."""
    try:
        import deepspeed
        import deepspeed.ops
    except Exception as e:
        print(f"no DeepSpeed here ({type(e).__name__}: {e}): a plain AdamW steps in its place")
        return None
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def now() -> float:
    """Return the time once the device has finished its work."""
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that the work takes on the device."""
    began = now()
    work()
    return now() - began


def peak_flops(small: bool) -> float:
    """Return the FLOP per second of a product of large bf16 matrices."""
    size = 512 if small else 8192
    factor = torch.randn(size, size, dtype=torch.bfloat16, device=DEVICE)
    return 2 * size**3 / min(timed(lambda: factor @ factor) for _ in range(5))


def allocated() -> int:
    """Return the bytes of tensors on the GPU."""
    return torch.cuda.memory_allocated() if ON_GPU else 0


class _NoTokenizer:
    """Stands in for a tokenizer: a benchmark of weights has none to save."""

    init_kwargs: dict[str, Any]

    def __init__(self) -> None:
        self.init_kwargs = {}

    def save_pretrained(self, folder: Any) -> None:
        """Save nothing."""


def saving(ladder: Ladder, root: Path) -> Iterator[str]:
    """Yield a line each for a snapshot, a resume point and loading the model again."""
    results: Any = SimpleNamespace(
        folder=Folder(root), checkpoint_name=lambda state: f"checkpoints/{state}"
    )
    weights: dict[str, Any] = {}
    copy = timed(lambda: weights.update(checkpoint_io.gather_weights(ladder.model, False)))
    size = sum(w.numel() * w.element_size() for w in weights.values())
    tokenizer: Any = _NoTokenizer()
    save = timed(
        lambda: checkpoint_io.save_checkpoint(results, "one", ladder.model, tokenizer, weights)
    )
    gib = size / 2**30
    yield f"snapshot of {gib:.2f} GiB: {copy:.2f} s while training waits, {save:.2f} s behind it"
    weights.clear()

    def point() -> None:
        shard = OptimizerShard.unwrap(ladder.engine.optimizer)
        found = ResumePoint.capture(shard, ladder.engine.module, [0.0], 0, 0.0)
        save_resume_point(results, "ladder", found, 0, 1, ladder.runtime.stage_of(ladder.recipe))

    yield f"resume point: {timed(point):.2f} s"
    folder = str(root / "checkpoints" / "one")

    def load() -> None:
        checkpoint_io.load_model(folder, None, "bfloat16", False).to(DEVICE)

    yield f"loading from the page cache to the device: {timed(load):.2f} s"


def measure(case: Case, small: bool, deepspeed: Any, peak: float, root: Path) -> list[str]:
    """Run a case; return what it showed, the row of the table first."""
    shape, before = shape_named(case.size, small), allocated()
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
    began = now()
    ladder = Ladder(case, shape, small, deepspeed)
    started = now() - began
    steps = [timed(ladder.step) for _ in range(2 if small else 6)][1:]
    took = statistics.median(steps)
    flops = (4 if case.lora else 6) * ladder.parameters * ladder.tokens
    row = [
        f"{case.size} {case.name}",
        f"{ladder.parameters / 1e6:,.1f}M",
        f"{ladder.computed / ladder.tokens:.2f}",
        f"{took:.3f}",
        f"{ladder.tokens / took:,.0f}",
        f"{flops / took / peak:.1%}",
    ]
    if ON_GPU:
        most = torch.cuda.max_memory_allocated() - before
        row += [f"{most / 2**30:.2f}", f"{ladder.predicted / 2**30:.2f}"]
        row += [f"{ladder.predicted / most - 1:+.0%}"]
    else:
        row += ["-", f"{ladder.predicted / 2**30:.2f}", "-"]
    lines = [f"set-up {started:.1f} s"]
    if case.saves:
        lines += list(saving(ladder, root))
    ladder.close()
    del ladder
    gc.collect()
    if ON_GPU:
        lines.append(f"memory after closing: {(allocated() - before) / 2**30:.2f} GiB more")
    return ["| " + " | ".join(row) + " |", *(f"{case.size} {case.name}: {each}" for each in lines)]


def left_out(case: Case, deepspeed: Any) -> str | None:
    """Return why a case cannot run here, None if it can."""
    if case.offload and deepspeed is None:
        return "offloading needs DeepSpeed"
    if case.lora:
        try:
            import peft  # noqa: F401
        except ImportError:
            return "LoRA needs peft"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--small", action="store_true", help="some hundred thousand parameters")
    parser.add_argument("--only", nargs="+", choices=sorted(NAMES), default=sorted(NAMES))
    args = parser.parse_args(arguments)
    if not (ON_GPU or args.small):
        print("no GPU here; --small runs the same on CPUs")
        return 2
    ends = time.monotonic() + 60 * args.minutes
    os.environ |= {"LOCAL_RANK": "0"} if ON_GPU else {"LOCAL_RANK": "0", "DS_ACCELERATOR": "cpu"}
    name = torch.cuda.get_device_name() if ON_GPU else "CPU"
    print(f"{name}, torch {torch.__version__}, transformers {_version('transformers')}")
    deepspeed = deepspeed_or_none()
    peak = peak_flops(args.small)
    print(f"product of bf16 matrices: {peak / 1e12:.3g} TFLOP/s")
    heads = (
        "case", "parameters", "computed per real token", "s per step", "real tokens per s",
        "share of the product's speed", "peak GiB", "predicted GiB", "error",
    )  # fmt: skip
    rows, notes, longest = [], [], 0.0
    with tempfile.TemporaryDirectory(prefix="elastic_ray-gpu-") as folder:
        root = Path(folder)
        if deepspeed is not None and not torch.distributed.is_initialized():
            torch.distributed.init_process_group(
                "nccl" if ON_GPU else "gloo",
                init_method=f"file://{root}/rendezvous",
                rank=0,
                world_size=1,
            )
        for case in CASES:
            if case.size not in args.only:
                continue
            why = left_out(case, deepspeed)
            # Each later case takes about as long as the longest so far.
            if why is None and time.monotonic() + longest > ends:
                why = "no time is left"
            if why is None:
                began = time.monotonic()
                try:
                    row, *lines = measure(case, args.small, deepspeed, peak, root / case.size)
                except torch.cuda.OutOfMemoryError:
                    why = "out of memory"
                    gc.collect()
                    torch.cuda.empty_cache()
                else:
                    rows.append(row)
                    notes += lines
                    print(row, *lines, sep="\n", file=sys.stderr, flush=True)
                longest = max(longest, time.monotonic() - began)
            if why is not None:
                notes.append(f"{case.size} {case.name}: left out, {why}")
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    print("| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *rows, "", sep="\n")
    print(*notes, sep="\n")
    return 0


def _version(package: str) -> str:
    from importlib import metadata

    return metadata.version(package)


if __name__ == "__main__":
    sys.exit(main())
