"""The engine half of `parts.py`: one vLLM engine starts, swaps and answers, beside the limits."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Sequence

from elastic_ray.serving.engines.local_weights import checked_stamp
from elastic_ray.serving.types import EngineConfig, Sampling, Weights

TOKENS = 32
"""Tokens per answer."""
PROMPTS = list(enumerate(["the film", "i saw this old western", "we rented a video"] * 16))
SWAPS = 4


def config_of(first: Weights) -> EngineConfig:
    """Return the configuration of an engine that starts on these weights."""
    return EngineConfig(
        "parts", "vllm", first.checkpoint, None, first.state_id, "bfloat16", 128,
        cpus=float(os.cpu_count() or 1),
    )  # fmt: skip


async def _serve(states: Sequence[Weights]) -> dict[str, list[float]]:
    from elastic_ray.serving.engines.vllm_engine import VllmEngine

    took: dict[str, list[float]] = {"hash": [], "start": [], "swap": [], "answers": []}
    for state in states:
        began = time.perf_counter()
        checked_stamp(state)
        took["hash"].append(time.perf_counter() - began)
    began = time.perf_counter()
    engine = VllmEngine(config_of(states[0]))
    await engine.load_weights(states[0])
    took["start"].append(time.perf_counter() - began)
    for turn in range(SWAPS):
        state = states[(turn + 1) % len(states)]
        began = time.perf_counter()
        await engine.load_weights(state)
        took["swap"].append(time.perf_counter() - began)
        began = time.perf_counter()
        sampling = Sampling(1, TOKENS, 1.0, 0, 1.0, turn)
        answers = await engine.generate(state, PROMPTS, sampling)
        took["answers"].append(time.perf_counter() - began)
        assert {answer.held_state for answer in answers} == {state.state_id}
    await engine.close()
    del engine
    gc.collect()
    return took


def serve(states: Sequence[Weights]) -> dict[str, list[float]]:
    """Return the seconds of each call, by part; `states` are two of one architecture.

    The environment of vLLM must be set (`vllm_environment`).
    """
    return asyncio.run(_serve(states))


def show(took: dict[str, list[float]], parameters: int, speed: dict[str, float]) -> None:
    """Print the medians beside their limits.

    A swap reads the weights once and compares them with what is held. Each step of decoding reads
    all weights; the arithmetic is less.
    """
    weights = 2 * parameters
    arithmetic = 2 * parameters * TOKENS * len(PROMPTS) / speed["flop"]
    limit = {
        "hash": weights / speed["hash"],
        "start": weights / speed["copy"],
        "swap": 2 * weights / speed["copy"],
        "answers": max(TOKENS * weights / speed["copy"], arithmetic),
    }
    print(f"engine: {len(PROMPTS)} prompts of {TOKENS} tokens; per call")
    print(f"{'part':<22}{'calls':>6}{'seconds':>10}{'limit':>10}")
    for part, seconds in took.items():
        median = sorted(seconds)[len(seconds) // 2]
        print(f"{part:<22}{len(seconds):>6}{median:>10.2f}{limit[part]:>10.2f}")
