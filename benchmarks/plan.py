"""Measures the time and peak memory of planning a large sweep, in a separate process.

    python benchmarks/plan.py [--cells 100000]

The script plans a grid of at least `--cells` cells: 10 models from the hub, 10 seeds, 20 positive
sizes, and as many negative sizes as necessary. It bundles the ladders for eight trainers, and
prints the seconds of each step and the peak memory. The limits for 100,000 cells are 5 s and 1 GB.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODELS, SEEDS, POSITIVE = 10, 10, 20


def measure(cells: int) -> dict[str, float]:
    """Plan in this process; return the plan's sizes, seconds per step and peak memory in MB."""
    began = time.perf_counter()
    from elastic_ray.placement import rate
    from elastic_ray.placement.flops import training_seconds
    from elastic_ray.plan import bundle, plan_sweep
    from elastic_ray.spec import load_spec
    from elastic_ray.tasks.registry import load_task

    imports = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.yaml"
        path.write_text(json.dumps(_large(cells)))  # JSON is YAML
        began = time.perf_counter()
        spec = load_spec(path)
    tasks = {task.name: load_task(task.name, task.data) for task in spec.task}
    read = time.perf_counter() - began
    began = time.perf_counter()
    plan = plan_sweep(spec, tasks, {})
    planned = time.perf_counter() - began
    began = time.perf_counter()
    at, tokens = rate(1, 0, 1), tasks["reviews"].mean_tokens
    trials = bundle(
        plan.ladders,
        lambda ladder: (
            training_seconds(
                plan.groups[ladder.engine].parameters,
                ladder.examples,
                tokens,
                ladder.stage.recipe,
                len(ladder.rungs),
                at,
                spec.training.runtime,
                1,
            ).total
        ),
        slots=8,
    )
    bundled = time.perf_counter() - began
    # Not getrusage: its peak includes the parent process's memory from before exec.
    status = Path("/proc/self/status").read_text().split()
    kilobytes = int(status[status.index("VmHWM:") + 1])
    return {
        "cells": len(plan.cells),
        "states": len(plan.states),
        "ladders": len(plan.ladders),
        "trials": len(trials),
        "imports_s": imports,
        "read_s": read,
        "plan_s": planned,
        "bundle_s": bundled,
        "peak_mb": kilobytes * 1.024 / 1000,
    }


def _large(cells: int) -> dict[str, object]:
    """Return the content of a sweep file with at least `cells` cells."""
    negative = math.ceil((cells / MODELS / SEEDS - 1) / POSITIVE)
    return {
        "sweep": "large",
        "task": "reviews",
        "models": [
            {"name": f"model-{i}", "hub": f"some/model-{i}-1B", "revision": f"{i:040x}"}
            for i in range(MODELS)
        ],
        "positive": [20 * (i + 1) for i in range(POSITIVE)],
        "negative": [20 * i for i in range(negative)],
        "seeds": list(range(SEEDS)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--here", action="store_true", help="measure in this process; print JSON")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(args.cells)))
        return 0
    found = json.loads(
        subprocess.run(
            [sys.executable, __file__, "--here", "--cells", str(args.cells)],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    )
    print(
        f"{found['cells']:,.0f} cells, {found['states']:,.0f} states, {found['ladders']:,.0f} "
        f"ladders, {found['trials']:,.0f} trials: read {found['read_s']:.2f} s, "
        f"planned {found['plan_s']:.2f} s, bundled {found['bundle_s']:.2f} s "
        f"(imports {found['imports_s']:.2f} s), peak {found['peak_mb']:,.0f} MB"
    )
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
