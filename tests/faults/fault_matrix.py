"""Every part of a sweep killed, hung, stalled or restarted, before, at and after a snapshot.

    python tests/faults/fault_matrix.py [--seed 0] [--only trainer,node] [--alone] [--list]

Each case is one fault in a copy of a small sweep (`fault_injection`). A case passes if the fault
happened, the rows equal those of an undisturbed run, no row is there twice, and no more examples
were trained again than lie between two snapshots (none for the parts that do not train). The seed
draws the moment of the fault (the third step, the second answer ...). Cases of independent parts
share a sweep, one fault of each; with `--alone` every case has its own sweep. A sweep takes a
minute or two. The exit code is 1 if a case fails.
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
"""How often a process may come to a point before it is the moment; the seed draws."""
STALL = 8.0


@dataclass(frozen=True)
class Case:
    """What breaks, how, and when; `how` is what the process at the moment does itself."""

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
    """The node goes with all that runs there, and does not come back."""
    disturbed.lose(reached["node"])


def restart_node(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """The node goes, and one comes in its place."""
    disturbed.lose(reached["node"])
    disturbed.add_node()


def hang_node(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """The node's Ray does not answer any more; what runs there goes on at first."""
    os.kill(disturbed.raylet(reached["node"]), signal.SIGSTOP)
    disturbed.go_on()


def drain_node(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """Notice that the node will be gone in 30 seconds; it is."""
    disturbed.drain(reached["node"], 30)
    timer = threading.Timer(30, disturbed.lose, [reached["node"]])
    timer.daemon = True
    timer.start()
    disturbed.go_on()


def restart_head(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """The head is killed, and with it the cluster; a new one is there when the command is given
    again."""
    os.kill(disturbed.gcs(), signal.SIGKILL)
    disturbed.go_on()
    run.wait()
    disturbed.restart()


def stall_head(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """The head's control store does not answer for some seconds."""
    gcs = disturbed.gcs()
    os.kill(gcs, signal.SIGSTOP)
    disturbed.go_on()
    time.sleep(STALL)
    os.kill(gcs, signal.SIGCONT)


def restart_store(
    disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]
) -> None:
    """Nobody answers at the object store's address for some seconds."""
    with disturbed.store.unreachable():
        disturbed.go_on()
        time.sleep(STALL)


def lose_store(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """The object store is unreachable for longer than a request is retried."""
    with disturbed.store.unreachable():
        disturbed.go_on()
        time.sleep(90)


def stall_store(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """The object store takes requests and does not answer for some seconds."""
    with disturbed.store.stalled():
        disturbed.go_on()
        time.sleep(STALL)


def slow_store(disturbed: Disturbed, reached: dict[str, Any], run: subprocess.Popen[str]) -> None:
    """Each answer of the object store takes half a second, for half a minute."""
    disturbed.store.delay = 0.5
    disturbed.go_on()
    time.sleep(30)
    disturbed.store.delay = 0.0


def cases() -> list[Case]:
    """All of them."""
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
    """The cases that may share a sweep: processes that break by themselves, of different parts."""
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
    """One sweep with the faults of these cases; the cluster is whole again after it."""
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
    parser.add_argument("--only", default="", help="parts of names, by commas")
    parser.add_argument("--list", action="store_true", help="name the cases, run none")
    parser.add_argument("--alone", action="store_true", help="every case in its own sweep")
    asked = parser.parse_args()
    wanted = [w for w in asked.only.split(",") if w]
    chosen = [c for c in cases() if not wanted or any(w in c.name for w in wanted)]
    if asked.list:
        print("\n".join(case.name for case in chosen))
        return 0
    failed: list[str] = []
    groups = [[case] for case in chosen] if asked.alone else together(chosen)
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as folder,
        closing(Disturbed(Path(folder) / "f")) as at,
    ):
        for number, group in enumerate(groups, 1):
            seen = run(at, group, asked.seed)
            names = ", ".join(case.name for case in group)
            print(
                f"{number}/{len(groups)} {names}: {'; '.join(seen.problems) or 'equal'} "
                f"({seen.seconds:.0f} s, {seen.runs} runs, {seen.again} examples learnt again)",
                flush=True,
            )
            if seen.problems:
                failed += [case.name for case in group]
                print(seen.printed[-3000:], flush=True)
    print(f"{len(chosen) - len(failed)} of {len(chosen)} equal" + "".join(f"; {f}" for f in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
