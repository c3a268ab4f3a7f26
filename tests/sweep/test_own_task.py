"""The example of a task in the sweep file runs whole, as it is shipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the training extra is not installed")

from elastic_ray.results.store import Results

ROOT = Path(__file__).parents[2]
FILE = ROOT / "sweeps" / "examples" / "own_task.yaml"


@pytest.mark.integration
@pytest.mark.slow
def test_the_example_of_a_task_in_the_file_runs_whole(tmp_path: Path) -> None:
    sets = ("seeds=[0]", "positive=[48]", "negative=[0,16]", "generation.prompts=16")
    words = [part for each in sets for part in ("--set", each)]
    done = subprocess.run(
        [sys.executable, "-m", "elastic_ray.sweep", FILE, "--results", tmp_path / "r", *words],
        env={**os.environ, "RAY_ADDRESS": "local", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    read = Results(tmp_path / "r").query
    cells = read("SELECT * FROM cell_scores WHERE sweep = 'own_task'").to_pylist()
    assert len(cells) == 3 and {cell["task"] for cell in cells} == {"chats"}
    asked = read("SELECT DISTINCT prompt FROM responses").to_pylist()
    assert len(asked) == 16
    assert all(row["prompt"].startswith("Question: how do i ") for row in asked)
    assert all(row["prompt"].endswith("\nAnswer: ") for row in asked)
