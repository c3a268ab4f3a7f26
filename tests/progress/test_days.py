"""A sweep that runs for days: its budget stops it, a larger one lets it go on, and Prometheus
reads its figures from the Ray cluster."""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_ray.results.store import Results

psutil = pytest.importorskip("psutil", reason="the training extra is not installed")
pytest.importorskip("ray", reason="the training extra is not installed")
from sweep_process import ALONE, command, marked, nothing_is_left, sweep

pytestmark = pytest.mark.integration

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
resources: {max_cpu_hours: 0.002, engines: {engine: transformers}, scorers: {engine: transformers}}
"""
USED_UP = r"the budget is used up: 0\.\d+ of 0\.002 CPU-hours"
"""More than allowed is used by as much as it takes to stop."""
HEAD = """
import sys
import ray
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
[node] = ray.nodes()
metrics = "%(NodeManagerAddress)s:%(MetricsExportPort)s" % node
print("at", ray.get_runtime_context().gcs_address, metrics, flush=True)
sys.stdin.read()
"""
SHARED = {
    "RAY_metrics_report_interval_ms": "2000",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


@pytest.fixture
def cluster() -> Iterator[tuple[dict[str, str], str]]:
    """A Ray cluster on this machine: the environment that joins it, where its metrics are."""
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**ALONE, **SHARED},
    )
    assert head.stdout is not None
    try:
        words = next((line.split() for line in head.stdout if line.startswith("at ")), None)
        assert words is not None, "Ray did not start"
        yield {"RAY_ADDRESS": words[1], **SHARED}, f"http://{words[2]}/metrics"
    finally:
        head.communicate()
    nothing_is_left()


def figures(url: str) -> dict[str, float]:
    """Return the figures of the sweep that Ray publishes now."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    found = (re.match(r'ray_elastic_(\w+)\{.*\bsweep="brief".*\} (\S+)$', line) for line in lines)
    return {each[1]: float(each[2]) for each in found if each}


def trained(results: Results) -> int:
    """Return the examples trained on the way to all recorded states, one ladder of each kind."""
    rows = results.query("SELECT kind, max(examples) AS most FROM states GROUP BY kind").to_pylist()
    return sum(row["most"] or 0 for row in rows)


def test_a_budget_stops_a_sweep_and_a_larger_one_lets_it_go_on(
    tmp_path: Path, scorers: Path, cluster: tuple[dict[str, str], str]
) -> None:
    joining, url = cluster
    spec, folder = tmp_path / "brief.yaml", tmp_path / "results"
    shutil.copytree(scorers, folder / "scorers")
    spec.write_text(SPEC)
    first = sweep(spec, folder, environment=joining)
    assert first.returncode == 3, first.stdout + first.stderr
    assert "budget: used 0 of 0.002 CPU-hours (resources.max_cpu_hours)" in first.stdout
    assert re.search(USED_UP, first.stdout) and "Traceback" not in first.stderr
    deadline = time.monotonic() + 60
    while left := [words for words in marked() if "ServeReplica:elastic_ray" in words]:
        assert time.monotonic() < deadline, f"left on the cluster: {left}"
        time.sleep(1)
    results = Results(folder)
    [row] = results.query("FROM runs").to_pylist()
    assert row["cpu_hours"] >= 0.002 and row["gpu_hours"] == 0
    assert len(results.cells("brief")) == 4
    assert "pending" in {cell["status"] for cell in results.cells("brief")}

    logs = sorted((folder / "logs").iterdir())
    again = sweep(spec, folder, environment=joining)
    assert again.returncode == 3, again.stdout + again.stderr
    assert re.search(USED_UP, again.stdout)
    assert sorted((folder / "logs").iterdir()) == logs, "nothing was started"

    before = trained(results)
    answers = results.query("SELECT coalesce(sum(tokens), 0) AS n FROM responses")["n"][0].as_py()
    more = subprocess.Popen(
        command(spec, folder, "--set", "resources.max_cpu_hours=10"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**ALONE, **joining},
    )
    seen: dict[str, list[float]] = defaultdict(list)
    running = True
    while running:  # Ray publishes a gauge once, also the last value: read once more after the run
        running = more.poll() is None
        for name, value in figures(url).items():
            seen[name].append(value)
        time.sleep(1)
    out, _ = more.communicate()
    assert more.returncode == 0, out
    assert {cell["status"] for cell in results.cells("brief")} == {"done"}
    rows = results.query("FROM runs ORDER BY started_at").to_pylist()
    assert len(rows) == 2 and rows[0] == row
    used = sum(each["cpu_hours"] for each in rows)

    assert max(seen["states_done"]) == len(results.recorded("states")) == 5
    assert max(seen["questions_answered"]) == len(results.recorded("scores")) == 4
    assert max(seen["examples_trained_total"]) == trained(results) - before
    said = results.query("SELECT sum(tokens) AS n FROM responses")["n"][0].as_py()
    assert max(seen["tokens_generated_total"]) == said - answers > 0
    assert 3 <= max(seen["weight_swaps_total"]) <= 4, "four states, and what it was opened on"
    assert max(seen["cpu_hours_used"]) == pytest.approx(used, rel=1e-6)
    assert min(seen["cpu_hours_used"]) >= row["cpu_hours"]
    assert set(seen["gpu_hours_used"]) == set(seen["states_failed"]) == {0}
    assert min(seen["questions_waiting"]) == min(seen["trials_waiting"]) == 0
    assert "gpu_hours_estimated" not in seen, "no GPU is there"

    status = sweep(spec, folder, "--status")
    assert f"budget: used {used:.3g} of 0.002 CPU-hours" in status.stdout
    assert sweep(spec, folder).returncode == 0, "all is measured: nothing to stop"
