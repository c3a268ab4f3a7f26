"""A small whole sweep, and its command as a process of its own: started and awaited."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

psutil = pytest.importorskip("psutil")

SPEC = """
sweep: little
task: reviews
models:
  - {name: little, init: {hidden_size: 64, layers: 1}, pretrain: [640, 1280]}
positive: [16, 64]
negative: [0, 8, 16, 32]
seeds: [0]
training: {learning_rate: 2.0e-3, global_batch: 8, pretrain: {global_batch: 32}}
lessons: {pairs: [[1, 2]], queries: 16}
generation: {prompts: 24, max_tokens: 24}
probes: {code_length: {texts: 6, window: 32}}
resources: {scorers: {engine: transformers}}
"""
CELLS = 2 * (1 + 2 * 4)
LESSONS = 2 * 2


MARK = f"ELASTIC_RAY_TEST_{os.getpid()}"
ALONE = {**os.environ, "RAY_ADDRESS": "local", MARK: "1"}
"""Not in a Ray cluster that may run on this machine; all that is started carries the mark."""
ENDED_WITHIN = 300.0
"""Seconds that processes may take to end."""


def command(spec: Path, results: Path | str, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "elastic_ray.sweep", str(spec), "--results", str(results), *more
    ]  # fmt: skip


def sweep(
    spec: Path,
    results: Path | str,
    *more: str,
    limit: float = 600,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(spec, results, *more),
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
        env={**ALONE, **(environment or {})},
        cwd=cwd,
    )


def start(spec: Path, results: Path, *more: str) -> subprocess.Popen:
    return subprocess.Popen(
        command(spec, results, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ALONE,
    )


def until(run: subprocess.Popen, reached: Callable[[], bool], limit: float = 600) -> None:
    """Wait for a moment of the run; it must come before the run ends."""
    deadline = time.monotonic() + limit
    while not reached():
        assert run.poll() is None, f"the run ended before: {run.communicate()[0]}"
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.1)


def nothing_is_left() -> None:
    """Every process that a run started, or that those started, has ended."""
    deadline = time.monotonic() + ENDED_WITHIN
    while alive := marked():
        assert time.monotonic() < deadline, f"left running: {alive}"
        time.sleep(1)


def marked() -> list[str]:
    """The command lines of those processes that run."""
    alive = (p for p in psutil.process_iter(["cmdline"]) if MARK in _environment(p))
    return [" ".join(p.info["cmdline"] or ()) for p in alive]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ() if process.pid != os.getpid() else {}
    except psutil.Error:  # it has just ended, or is another user's
        return {}
