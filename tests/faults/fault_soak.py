"""Runs sweeps under random faults, one every half minute, for a given time.

    python tests/faults/fault_soak.py [--minutes 20] [--every 30] [--seed 0]

Sweeps run one after the other on the cluster of `fault_injection`. The command of a sweep is
repeated until it succeeds. Every second sweep stores its results in the object store. The faults:

- processes of the sweep (trainers, engines, scorers, Tune's, Serve's, the command itself) are
  killed, hung or stalled;
- nodes are killed and replaced;
- the object store does not answer for a while.

The rows of each sweep must equal those of a run without faults, and none may be recorded twice. The
exit code is 1 if a sweep differs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from fault_injection import Disturbed

TARGETS = {
    "trainer": "ray::RayTrainWorker",
    "engine": ":EngineReplica",
    "scorer": ":ScorerReplica",
    "trial": "ray::ImplicitFunc",
    "controller": "ray::TrainController",
    "serve": "ray::ServeController",
}
"""Part -> text in the command line of its processes."""
STALL = 8.0
ENOUGH = 1200.0
"""Seconds within which a sweep must finish; without faults it takes one minute."""


class Soak:
    """Injects the faults of one run of this script, and counts them by part and fault (`hit`)."""

    def __init__(self, disturbed: Disturbed, dice: random.Random, every: float) -> None:
        self._disturbed, self._dice, self._every = disturbed, dice, every
        self._due = time.monotonic() + every
        self.hit: Counter[str] = Counter()
        self._stalled: list[tuple[float, int]] = []

    def tick(self, run: subprocess.Popen[str], on_store: bool) -> None:
        """Resume processes whose stall has ended, and inject a fault if it is due."""
        now = time.monotonic()
        for due, pid in self._stalled:
            if due <= now:
                self._signal(pid, signal.SIGCONT)
        self._stalled = [each for each in self._stalled if each[0] > now]
        if self._due <= now:
            self._due = max(self._due + self._every, now)
            print(f"  {self._strike(run, on_store)}", flush=True)

    def _strike(self, run: subprocess.Popen[str], on_store: bool) -> str:
        """Inject one fault into a part that is running, and return its description."""
        options = [("command", "killed"), ("command", "stalled"), ("node", "lost")]
        options += [("store", "restarted"), ("store", "stalled")] if on_store else []
        found = {part: self._processes(name) for part, name in TARGETS.items()}
        for part, pids in found.items():
            if pids:
                options += [(part, "killed"), (part, "stalled")]
                options += [(part, "hung")] if part in ("trainer", "engine", "scorer") else []
        part, fault = self._dice.choice(options)
        if part == "node":
            node = self._dice.choice(sorted(self._disturbed.cluster.worker_nodes, key=id))
            self._disturbed.lose(node.node_id)
            self._disturbed.add_node()
        elif part == "store":
            store = self._disturbed.store
            with store.unreachable() if fault == "restarted" else store.stalled():
                time.sleep(STALL)
        else:
            pid = run.pid if part == "command" else self._dice.choice(found[part])
            self._signal(pid, signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
            if fault == "stalled":
                self._stalled.append((time.monotonic() + STALL, pid))
        self.hit[f"{part} {fault}"] += 1
        return f"{part} {fault}"

    def _processes(self, name: str) -> list[int]:
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            command = " ".join(process.info["cmdline"] or [])
            if name in command and self._ours(process):
                found.append(process.pid)
        return sorted(found)

    def _ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("FAULTS") == str(self._disturbed.hooks)
        except psutil.Error:
            return False

    def _signal(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def sweep(disturbed: Disturbed, name: str, soak: Soak, on_store: bool) -> list[str]:
    """Run one sweep under faults until it succeeds, and return the problems."""
    results = disturbed.copy(name, on_store)
    began, runs = time.monotonic(), 0
    while True:
        run, runs = disturbed.start(results), runs + 1
        while run.poll() is None:
            time.sleep(0.5)
            soak.tick(run, on_store)
        out = run.communicate()[0]
        if run.returncode == 0:
            break
        if time.monotonic() > began + ENOUGH:
            return [f"not finished after {ENOUGH:.0f} s: {out[-2000:]}"]
        disturbed.mend()
    print(f"{name}: {runs} runs of the command", flush=True)
    problems = disturbed.compare(results)
    disturbed.delete(results)
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--every", type=float, default=30, help="seconds between faults")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    failed = 0
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        contextlib.closing(Disturbed(Path(folder) / "f")) as at,
    ):
        soak = Soak(at, random.Random(args.seed), args.every)
        until, number = time.monotonic() + 60 * args.minutes, 0
        while time.monotonic() < until:
            number += 1
            problems = sweep(at, f"sweep{number}", soak, on_store=number % 2 == 0)
            print(f"sweep{number}: {'; '.join(problems) or 'equal'}", flush=True)
            failed += bool(problems)
            at.mend()
    hit = ", ".join(f"{what} {count}" for what, count in sorted(soak.hit.items()))
    print(f"{number - failed} of {number} sweeps equal under {soak.hit.total()} faults: {hit}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
