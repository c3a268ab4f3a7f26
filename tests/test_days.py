"""A sweep that runs for days: its budget ends it, and with more it goes on where it ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_ray.results import Results

pytest.importorskip("ray", reason="the training extra is not installed")
from sweep_process import nothing_is_left, sweep

SPEC = """
sweep: brief
task: reviews
models:
  - {name: brief, init: {hidden_size: 64, layers: 1}, pretrain: [640]}
positive: [32]
negative: [16, 32]
seeds: [0]
training: {learning_rate: 2.0e-3, global_batch: 8, pretrain: {global_batch: 32}}
generation: {prompts: 16, max_tokens: 24}
resources: {max_cpu_hours: 0.002}
"""


def test_a_budget_ends_a_sweep_and_more_of_it_goes_on(tmp_path: Path) -> None:
    spec, results = tmp_path / "brief.yaml", tmp_path / "results"
    spec.write_text(SPEC)
    first = sweep(spec, results)
    assert first.returncode == 3, first.stdout + first.stderr
    assert "budget: used 0 of 0.002 CPU-hours (resources.max_cpu_hours)" in first.stdout
    assert "the budget is used up: 0.00" in first.stdout and "Traceback" not in first.stderr
    nothing_is_left(within=60)
    [row] = Results(results).query("FROM runs").to_pylist()
    assert row["cpu_hours"] >= 0.002 and row["gpu_hours"] == 0
    cells = Results(results).cells("brief")
    assert len(cells) == 4 and "pending" in {cell["status"] for cell in cells}

    logs = sorted((results / "logs").iterdir())
    again = sweep(spec, results, limit=100)
    assert again.returncode == 3, again.stdout + again.stderr
    assert "the budget is used up: 0.00" in again.stdout
    assert sorted((results / "logs").iterdir()) == logs, "nothing was started"

    more = sweep(spec, results, "--set", "resources.max_cpu_hours=10")
    assert more.returncode == 0, more.stdout + more.stderr
    assert {cell["status"] for cell in Results(results).cells("brief")} == {"done"}
    rows = Results(results).query("FROM runs ORDER BY started_at").to_pylist()
    assert len(rows) == 2 and rows[0] == row
    status = sweep(spec, results, "--status", limit=100)
    used = sum(each["cpu_hours"] for each in rows)
    assert f"budget: used {used:.3g} of 0.002 CPU-hours" in status.stdout
    assert sweep(spec, results, limit=100).returncode == 0, "all is measured: nothing to stop"
