"""Shows what each process of a sweep costs, and when the first state is trained.

    python benchmarks/startup.py [sweeps/tiny.yaml] [--set PATH=VALUE ...] [--source FOLDER ...]

Runs the sweep into an empty results folder, as a user runs it, and reads the CPU time and the
resident memory of its processes four times a second. With `--source` it runs once for each folder,
each a checkout of this project, so that two versions are compared in one run. CPU seconds depend
little on what else the machine does; seconds by the clock depend on it.

`--imports MODULE` instead prints the modules that take longest to import, by `-X importtime`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from elastic_ray.results.store import Results

INTERVAL = 0.25
"""Seconds between two readings."""
LONGEST = 25
"""Number of modules that `--imports` prints."""


@dataclass
class Costs:
    """The CPU seconds of each process by its kind, and the peak of all resident memory in bytes."""

    cpu: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    resident: dict[str, int] = field(default_factory=dict)
    peak: int = 0
    seconds: float = 0.0
    first_trained: float | None = None

    def read(self, root: psutil.Process) -> None:
        """Add a reading of the process and its descendants."""
        total = 0
        for process in [root, *root.children(recursive=True)]:
            try:
                with process.oneshot():
                    command = process.cmdline()
                    if not command:  # it ends
                        continue
                    kind = kind_of(command, process.pid == root.pid)
                    times = process.cpu_times()
                    resident = process.memory_info().rss
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            for each in self.cpu.values():  # a worker takes its kind when it gets its task
                each.pop(process.pid, None)
            self.cpu[kind][process.pid] = times.user + times.system
            self.resident[kind] = max(resident, self.resident.get(kind, 0))
            total += resident
        self.peak = max(self.peak, total)


def kind_of(command: list[str], is_root: bool) -> str:
    """Return a readable name for what a process does."""
    if is_root:
        return "command"
    line = " ".join(command)
    if found := re.match(r"ray::(\S+)", line):
        name = found[1].split(".")[0]
        return re.sub(r"elastic_ray-[0-9a-f]+-|-[0-9a-f]{6,}", "", name)
    for part in ("gcs_server", "raylet", "monitor.py", "log_monitor.py", "dashboard.py"):
        if part in line:
            return part
    if "default_worker.py" in line:
        return "worker without a task"
    if "resource_tracker" in line:
        return "resource_tracker"
    return Path(command[0]).name if command else "unknown"


def run(source: Path, arguments: list[str]) -> Costs:
    """Run a sweep with the code of a checkout; return what its processes cost."""
    costs = Costs()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        command = [sys.executable, "-m", "elastic_ray.sweep", *arguments]
        environment = {**os.environ, "RAY_ADDRESS": "local", "PYTHONPATH": str(source)}
        began, at = time.monotonic(), time.time()
        with open(Path(folder) / "log", "w+") as log:
            started = psutil.Popen(
                [*command, "--results", str(results)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=source,
            )
            while started.poll() is None:
                costs.read(started)
                time.sleep(INTERVAL)
            log.seek(0)
            printed = log.read()
        costs.seconds = time.monotonic() - began
        if started.returncode:
            sys.exit(printed)
        print("\n".join(printed.splitlines()[-3:]))
        ends = [
            row["finished_at"]
            for row in Results(str(results)).states(("parent_id", "finished_at")).values()
            if row["parent_id"]
        ]
        costs.first_trained = min(ends).timestamp() - at if ends else None
    return costs


def print_costs(costs: Costs) -> None:
    """Print the kinds of processes, the most expensive first."""
    print(f"{'process':45} {'number':>6} {'CPU s':>7} {'MiB each':>9}")
    for kind, each in sorted(costs.cpu.items(), key=lambda item: -sum(item[1].values())):
        if each:
            mib = costs.resident[kind] / 2**20
            print(f"{kind[:45]:45} {len(each):6} {sum(each.values()):7.1f} {mib:9.0f}")
    total = sum(sum(each.values()) for each in costs.cpu.values())
    first = "-" if costs.first_trained is None else f"{costs.first_trained:.0f} s"
    print(f"{'all':45} {'':6} {total:7.1f} {costs.peak / 2**20:9.0f} at once")
    print(f"wall clock {costs.seconds:.0f} s; first state trained after {first}")


def print_imports(module: str) -> None:
    """Print the modules that take longest to import, with what they import."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
    rows = [line.removeprefix("import time:").split("|") for line in lines if "|" in line]
    measured = [(int(row[1]), row[2]) for row in rows if row[1].strip().isdigit()]
    for microseconds, name in sorted(measured, reverse=True)[:LONGEST]:
        print(f"{microseconds / 1e6:7.2f} s  {name.strip()}")


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("spec", nargs="?", default="sweeps/tiny.yaml")
    parser.add_argument("--set", action="append", default=[], help="as of the sweep command")
    parser.add_argument("--source", nargs="+", type=Path, default=[Path(__file__).parents[1]])
    parser.add_argument("--imports", help="print the import times of this module instead")
    chosen = parser.parse_args()
    if chosen.imports:
        print_imports(chosen.imports)
        return
    arguments = [chosen.spec, *(part for each in chosen.set for part in ("--set", each))]
    for source in chosen.source:
        print(f"\n{source}" if len(chosen.source) > 1 else "")
        print_costs(run(source.resolve(), arguments))


if __name__ == "__main__":
    main()
