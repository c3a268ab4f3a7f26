"""`benchmarks/gpu.py` runs without DeepSpeed, Ray, vLLM and DuckDB."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the training extra is not installed")
pytest.importorskip("peft", reason="the training extra is not installed")

ROOT = Path(__file__).parents[2]
BARE = """
import importlib.util
import sys

def missing(name):
    return name.split(".")[0] in ("deepspeed", "ray", "vllm", "duckdb")

class Missing:
    def find_spec(self, name, path=None, target=None):
        if missing(name):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

find = importlib.util.find_spec  # by which libraries ask what is installed
importlib.util.find_spec = lambda name, *rest: None if missing(name) else find(name, *rest)
sys.meta_path.insert(0, Missing())
sys.path.insert(0, "benchmarks")
import gpu
sys.exit(gpu.main(["--small"]))
"""
MEASURED = (
    "1b by length", "1b again", "1b equal", "1b packed", "1b checkpointing", "1b whole logits",
    "7b LoRA", "7b LoRA, checkpointing", "3b by length", "3b checkpointing",
)  # fmt: skip


def test_every_case_runs_on_a_bare_machine_but_those_that_need_deepspeed() -> None:
    out = subprocess.run(
        [sys.executable, "-c", BARE],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr[-3000:]
    assert "no DeepSpeed here (ModuleNotFoundError" in out.stdout
    assert "7b offload: left out, offloading needs DeepSpeed" in out.stdout
    table = [line.strip("| ").split(" | ") for line in out.stdout.splitlines() if "| " in line]
    cases = {row[0]: row for row in table[1:]}
    assert tuple(cases) == MEASURED
    padded, packed = float(cases["1b equal"][2]), float(cases["1b packed"][2])
    assert packed < padded and packed < 1.2, "a packed batch has hardly any padding"
    assert re.search(r"1b by length: snapshot of .* s while training waits", out.stdout)
    assert "1b by length: resume point: " in out.stdout
