"""Runs a small but complete sweep as a separate process."""

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
"""Environment of a sweep that starts its own Ray; `MARK` identifies all its processes."""
ENDED_WITHIN = 300.0
"""Seconds within which all processes of a sweep must end."""


def command(spec: Path, results: Path | str, *more: str) -> list[str]:
    """Return the sweep command; `more` are further arguments."""
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
    """Run the sweep command and wait for it, at most `limit` seconds."""
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
    """Start the sweep command; its stdout includes stderr."""
    return subprocess.Popen(
        command(spec, results, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ALONE,
    )


def until(run: subprocess.Popen, reached: Callable[[], bool], limit: float = 600) -> None:
    """Wait until `reached()` is true; fail if the run ends first or `limit` seconds pass."""
    deadline = time.monotonic() + limit
    while not reached():
        assert run.poll() is None, f"the run ended first: {run.communicate()[0]}"
        assert time.monotonic() < deadline, f"not reached within {limit:.0f} s"
        time.sleep(0.1)


def nothing_is_left() -> None:
    """Assert that all marked processes (`MARK`) end within `ENDED_WITHIN` seconds."""
    deadline = time.monotonic() + ENDED_WITHIN
    while alive := marked():
        assert time.monotonic() < deadline, f"left running: {alive}"
        time.sleep(1)


def marked() -> list[str]:
    """Return the command lines of the marked processes that are running."""
    alive = (p for p in psutil.process_iter(["cmdline"]) if MARK in _environment(p))
    return [" ".join(p.info["cmdline"] or ()) for p in alive]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ() if process.pid != os.getpid() else {}
    except psutil.Error:  # it has just ended or belongs to another user
        return {}
