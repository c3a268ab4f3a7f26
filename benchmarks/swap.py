"""Compares the time of a proven swap with that of vLLM's bare reload, and of starting an engine.

    python benchmarks/swap.py [--swaps 10] [--starts 3] [--large] [--threads 1]

One run measures all of them, on the same two checkpoints, which the script creates. `--large` has
934 million parameters in bfloat16 (1.74 GiB per checkpoint; needs 12 GiB of memory), the default
about a million in float32. A start is timed from the creation of the engine to the first answers.
A swap is timed from the request until the new weights are loaded and compared with the files, as in
a sweep; the generation of answers is not included. Files are hashed before, as a replica does
outside its weight lease; that is timed apart. Bare reloads and proven swaps take turns. Their CPU
seconds, of the engine's process, are told too: on a busy machine they vary less than wall clocks.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from elastic_ray.serving.engines.local_weights import checked_stamp
from elastic_ray.serving.engines.vllm_engine import VllmEngine
from elastic_ray.serving.engines.vllm_runtime import vllm_environment
from elastic_ray.serving.types import EngineConfig, Sampling, Weights

PROMPTS = list(enumerate(["the film", "i saw this old western", "we rented"]))
SAMPLING = Sampling(1, 8, 0.0, 0, 1.0, 0)


LARGE = {"hidden_size": 2048, "intermediate_size": 5504, "layers": 16, "heads": 16, "kv_heads": 16}
VOCABULARY = 32_000


def states(root: Path, layers: int, large: bool) -> list[Weights]:
    """Create checkpoints of two states of one architecture below `root`."""
    import torch
    from transformers import AutoModelForCausalLM

    from elastic_ray.checkpoints.files import checkpoint_checksum
    from elastic_ray.spec import Init
    from elastic_ray.tasks.registry import load_task
    from elastic_ray.training.start_states import model_config

    tokenizer = load_task("reviews").tokenizer(None)
    shape = Init(**LARGE) if large else Init(hidden_size=128, layers=layers)
    config = model_config(shape, tokenizer)
    if large:
        config.vocab_size, config.tie_word_embeddings = VOCABULARY, False
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        place = root / f"state-{seed}"
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16 if large else torch.float32
        )
        print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        found.append(Weights(f"state-{seed}", str(place), None, checkpoint_checksum(place)))
    return found


@dataclass
class Times:
    """Seconds of each repetition."""

    starts: list[float] = field(default_factory=list)
    hashing: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    proven: list[float] = field(default_factory=list)
    bare_cpu: list[float] = field(default_factory=list)
    proven_cpu: list[float] = field(default_factory=list)


def cpu_seconds() -> float:
    """Return the CPU seconds that this process and its children have used."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(each.cpu_times().user + each.cpu_times().system for each in processes)


async def measure(found: list[Weights], dtype: str, starts: int, swaps: int) -> Times:
    """Return the seconds of engine starts, hashing, bare reloads and proven swaps."""
    times = Times()
    for state in found:
        began = time.monotonic()
        checked_stamp(state)
        times.hashing.append(time.monotonic() - began)
    for turn in range(starts):
        first = found[turn % 2]
        config = EngineConfig("bench", "vllm", first.checkpoint, None, first.state_id, dtype, 128)
        began = time.monotonic()
        engine = VllmEngine(config)
        await engine.load_weights(first)  # a sweep's engine also verifies its first weights
        await engine.generate(first, PROMPTS, SAMPLING)
        times.starts.append(time.monotonic() - began)
        for i in range(swaps if turn == starts - 1 else 0):
            other, state = found[i % 2], found[(i + 1) % 2]
            began, used = time.monotonic(), cpu_seconds()
            await engine._llm.collective_rpc(
                "reload_weights", kwargs={"weights_path": other.checkpoint}
            )
            times.bare.append(time.monotonic() - began)
            times.bare_cpu.append(cpu_seconds() - used)
            began, used = time.monotonic(), cpu_seconds()
            await engine.load_weights(state)
            times.proven.append(time.monotonic() - began)
            times.proven_cpu.append(cpu_seconds() - used)
            answers = await engine.generate(state, PROMPTS, SAMPLING)
            assert {a.held_state for a in answers} == {state.state_id}
        if turn == starts - 1:
            counts = {name: n for name, n in engine.checked[0].items() if name != "covered"}
            print(f"compared: {counts}")
        await engine.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="934 million parameters, bfloat16")
    parser.add_argument("--threads", type=int, default=1, help="threads of the engine")
    parser.add_argument(
        "--layers", type=int, default=3, help="layers of the small model; its width is 128"
    )
    args = parser.parse_args()
    config = EngineConfig("bench", "vllm", "", None, "", "float32", 128)
    os.environ.update(vllm_environment(config, args.threads))  # before vLLM is imported
    with tempfile.TemporaryDirectory(prefix="elastic_ray-swap-") as root:
        os.environ["ELASTIC_RAY_COPIES"] = str(Path(root, "cache"))  # nothing is known before
        found = states(Path(root), args.layers, args.large)
        dtype = "bfloat16" if args.large else "float32"
        times = asyncio.run(measure(found, dtype, args.starts, args.swaps))
    gc.collect()  # vLLM prints errors for engines that still exist when the interpreter exits
    for name in ("starts", "hashing", "bare", "proven", "bare_cpu", "proven_cpu"):
        seconds = getattr(times, name)
        print(
            f"{name:10} median {statistics.median(seconds):.3f} s, best {min(seconds):.3f} s, "
            f"slowest {max(seconds):.3f} s of {len(seconds)}"
        )
    for what, bare, proven in (
        ("wall clock", times.bare, times.proven),
        ("CPU seconds", times.bare_cpu, times.proven_cpu),
    ):
        pairs = [one / other for one, other in zip(proven, bare, strict=True)]
        print(
            f"proven / bare, {what}: {statistics.median(pairs):.2f} in the median of pairs, "
            f"{statistics.median(proven) / statistics.median(bare):.2f} of the medians"
        )
    start, swap = statistics.median(times.starts), statistics.median(times.proven)
    print(f"start / proven swap: {start / swap:.0f}")


if __name__ == "__main__":
    main()
