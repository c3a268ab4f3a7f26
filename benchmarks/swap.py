"""Compares the time to swap a state into a running engine with the time to start an engine.

    python benchmarks/swap.py [--swaps 40] [--starts 3]

One run measures both, on the same two checkpoints, which the script creates. A start is timed from
the creation of the engine to the first answers. A swap is timed from the request until the new
weights are loaded, including the checksum and the comparison of the weights, as in a sweep; the
generation of answers is not included.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import tempfile
import time
from pathlib import Path

from elastic_ray.serving.engines.vllm_engine import VllmEngine
from elastic_ray.serving.engines.vllm_runtime import vllm_environment
from elastic_ray.serving.types import EngineConfig, Sampling, Weights

PROMPTS = list(enumerate(["the film", "i saw this old western", "we rented"]))
SAMPLING = Sampling(1, 8, 0.0, 0, 1.0, 0)


def states(root: Path, layers: int) -> list[Weights]:
    """Create checkpoints of two states of one architecture below `root`."""
    import torch
    from transformers import AutoModelForCausalLM

    from elastic_ray.checkpoints.files import checkpoint_checksum
    from elastic_ray.spec import Init
    from elastic_ray.tasks.registry import load_task
    from elastic_ray.training.start_states import model_config

    tokenizer = load_task("reviews").tokenizer(None)
    config = model_config(Init(hidden_size=128, layers=layers), tokenizer)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        place = root / f"state-{seed}"
        AutoModelForCausalLM.from_config(config).save_pretrained(place)
        tokenizer.save_pretrained(place)
        found.append(Weights(f"state-{seed}", str(place), None, checkpoint_checksum(place)))
    return found


async def measure(found: list[Weights], starts: int, swaps: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each engine start and of each swap."""
    started, swapped = [], []
    for turn in range(starts):
        first = found[turn % 2]
        config = EngineConfig(
            "bench", "vllm", first.checkpoint, None, first.state_id, "float32", 128
        )
        began = time.monotonic()
        engine = VllmEngine(config)
        await engine.load_weights(first)  # a sweep's engine also verifies its first weights
        await engine.generate(first, PROMPTS, SAMPLING)
        started.append(time.monotonic() - began)
        if turn == starts - 1:
            for i in range(swaps):
                state = found[(turn + 1 + i) % 2]
                began = time.monotonic()
                await engine.load_weights(state)
                swapped.append(time.monotonic() - began)
                answers = await engine.generate(state, PROMPTS, SAMPLING)
                assert {a.held_state for a in answers} == {state.state_id}
        await engine.close()
    return started, swapped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=40)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument(
        "--layers", type=int, default=3, help="layers of the model; its width is 128"
    )
    args = parser.parse_args()
    config = EngineConfig("bench", "vllm", "", None, "", "float32", 128)
    os.environ.update(vllm_environment(config, threads=1))  # before vLLM is imported
    with tempfile.TemporaryDirectory(prefix="elastic_ray-swap-") as root:
        found = states(Path(root), args.layers)
        started, swapped = asyncio.run(measure(found, args.starts, args.swaps))
    gc.collect()  # vLLM prints errors for engines that still exist when the interpreter exits
    start, swap = statistics.median(started), statistics.median(swapped)
    print(f"engine start: median {start:.2f} s of {[round(s, 2) for s in started]}")
    print(
        f"state swap:   median {swap * 1000:.1f} ms, slowest {max(swapped) * 1000:.1f} ms, "
        f"of {len(swapped)}"
    )
    print(f"ratio: {start / swap:.0f} (slowest swap: {start / max(swapped):.0f})")


if __name__ == "__main__":
    main()
