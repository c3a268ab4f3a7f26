"""Injects each fault into each part of a sweep, before, during and after a snapshot.

    python tests/faults/fault_matrix.py [--seed 0] [--only trainer,node] [--alone] [--list]

Parts are killed, hung, stalled or restarted. Each case is one fault in a copy of a small sweep
(`fault_injection`). A case passes if all of these hold:

- the fault occurred;
- the rows equal those of a run without faults, and no row is recorded twice;
- no more examples were trained again than lie between two snapshots (none, for parts that do not
  train).

The seed determines at which step or answer the fault occurs. Cases of independent parts share a
sweep, with one fault each; with `--alone`, every case has its own sweep. A sweep takes a minute or
two. The exit code is 1 if a case fails.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from fault_injection import Disturbed, Fault, Meanwhile, Seen

WHENS = ("before", "during", "after")
MOST_SKIPPED = {"trainer.before": 5, "trainer.during": 3, "trainer.after": 3, "engine.before": 3,
                "engine.during": 3, "engine.after": 3, "scorer.during": 3, "scorer.after": 3,
                "driver.during": 2, "driver.after": 2}  # fmt: skip
"""Point -> how often it may be reached before the fault, at most; drawn with the seed."""
STALL = 8.0


@dataclass(frozen=True)
class Case:
    """One part, fault and time; `how` is what the process that reaches the point does itself."""

    part: str
    fault: str
    when: str
    point: str
    how: str
    meanwhile: Meanwhile | None = None

    @property
    def name(self) -> str:
        return f"{self.part}-{self.fault}-{self.when}"


def lose_node(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """Kill the node and all its processes; it is not replaced."""
    disturbed.lose(reached["node"])


def restart_node(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """Kill the node and add a new one."""
    disturbed.lose(reached["node"])
    disturbed.add_node()


def hang_node(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """Stop the node's raylet; its other processes keep running at first."""
    os.kill(disturbed.raylet(reached["node"]), signal.SIGSTOP)
    disturbed.go_on()


def drain_node(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """Announce that the node will end in 30 seconds, and kill it then."""
    disturbed.drain(reached["node"], 30)
    timer = threading.Timer(30, disturbed.lose, [reached["node"]])
    timer.daemon = True
    timer.start()
    disturbed.go_on()


def restart_head(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """Kill the head and thereby the cluster; start a new cluster once the command has ended."""
    os.kill(disturbed.gcs(), signal.SIGKILL)
    disturbed.go_on()
    run.wait()
    disturbed.restart()


def stall_head(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """Stop the head's control store (GCS) for `STALL` seconds."""
    gcs = disturbed.gcs()
    os.kill(gcs, signal.SIGSTOP)
    disturbed.go_on()
    time.sleep(STALL)
    os.kill(gcs, signal.SIGCONT)


def restart_store(
    disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]
) -> None:
    """Make the object store unreachable for `STALL` seconds."""
    with disturbed.store.unreachable():
        disturbed.go_on()
        time.sleep(STALL)


def lose_store(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """Make the object store unreachable for longer than requests are retried (90 seconds)."""
    with disturbed.store.unreachable():
        disturbed.go_on()
        time.sleep(90)


def stall_store(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """Make the object store accept requests without answering them for `STALL` seconds."""
    with disturbed.store.stalled():
        disturbed.go_on()
        time.sleep(STALL)


def slow_store(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """Delay each answer of the object store by half a second, for half a minute."""
    disturbed.store.delay = 0.5
    disturbed.go_on()
    time.sleep(30)
    disturbed.store.delay = 0.0


def cases() -> list[Case]:
    """Return all cases."""
    found = []
    for when in WHENS:
        for part in ("trainer", "engine", "scorer", "driver"):
            for fault in ("killed", "hung", "stalled"):
                if (part, fault) == ("driver", "hung") or (part, fault, when) == (
                    "scorer", "hung", "before"
                ):  # fmt: skip
                    continue
                found.append(Case(part, fault, when, f"{part}.{when}", fault))
        for part, fault, meanwhile in (
            ("node", "killed", lose_node),
            ("node", "restarted", restart_node),
            ("node", "hung", hang_node),
            ("node", "drained", drain_node),
            ("head", "restarted", restart_head),
            ("head", "stalled", stall_head),
            ("store", "killed", lose_store),
            ("store", "restarted", restart_store),
            ("store", "hung", stall_store),
            ("store", "slow", slow_store),
        ):
            found.append(Case(part, fault, when, f"trainer.{when}", "waits", meanwhile))
    found += [
        Case("engine-node", "killed", when, f"engine.{when}", "waits", lose_node) for when in WHENS
    ]
    starting = "engine.starting"
    found += [
        Case("starting-engine", fault, "before", starting, fault) for fault in ("killed", "stalled")
    ]
    found.append(Case("starting-engine-node", "killed", "before", starting, "waits", lose_node))
    return found


def together(chosen: Sequence[Case]) -> list[list[Case]]:
    """Group the cases that may share a sweep: faults of single processes in different parts."""
    shared: dict[tuple[str, str], list[Case]] = {}
    found: list[list[Case]] = []
    for case in chosen:
        restarts = case.part == "driver" and case.fault == "killed"
        if case.meanwhile is not None or restarts:
            found.append([case])
            continue
        group = shared.setdefault((case.fault, case.when), [])
        if not group:
            found.append(group)
        group.append(case)
    return found


def run(disturbed: Disturbed, group: Sequence[Case], seed: int) -> Seen:
    """Run one sweep with the faults of these cases, then repair the cluster."""
    faults = []
    for case in group:
        dice = random.Random(f"{seed} {case.name}")
        skip = dice.randint(0, MOST_SKIPPED.get(case.point, 0))
        faults.append(Fault(case.point, case.how, skip, case.meanwhile))
    try:
        return disturbed.run(group[0].name, faults, on_store=group[0].part == "store")
    finally:
        disturbed.mend()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="parts of case names, separated by commas")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and exit")
    parser.add_argument("--alone", action="store_true", help="run every case in its own sweep")
    args = parser.parse_args()
    wanted = [w for w in args.only.split(",") if w]
    chosen = [c for c in cases() if not wanted or any(w in c.name for w in wanted)]
    if args.list:
        print("\n".join(case.name for case in chosen))
        return 0
    failed: list[str] = []
    groups = [[case] for case in chosen] if args.alone else together(chosen)
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as folder,
        closing(Disturbed(Path(folder) / "f")) as at,
    ):
        for number, group in enumerate(groups, 1):
            seen = run(at, group, args.seed)
            names = ", ".join(case.name for case in group)
            print(
                f"{number}/{len(groups)} {names}: {'; '.join(seen.problems) or 'equal'} "
                f"({seen.seconds:.0f} s, {seen.runs} runs, {seen.again} examples trained again)",
                flush=True,
            )
            if seen.problems:
                failed += [case.name for case in group]
                print(seen.printed[-3000:], flush=True)
    print(f"{len(chosen) - len(failed)} of {len(chosen)} equal" + "".join(f"; {f}" for f in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
