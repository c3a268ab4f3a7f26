"""Injects faults into sweeps on a simulated three-node cluster, and compares the results.

`Disturbed` holds four things:

- the cluster on this machine (`ray.cluster_utils`: a head without CPUs, two workers);
- an object store (`object_store`);
- the results of a small sweep that is half finished: its start states, its scorer and its first
  states are recorded, so that a case takes seconds;
- the results of the same sweep, completed without faults.

`Disturbed.run` copies the half-finished results, on disk or in the store. It completes the copy
while a fault occurs at a point of the code (`fault_hooks`), and reports what happened.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from object_store import KEYS, object_store
from same_rows import ROUNDED, rows_of

from elastic_ray.results.schemas import TABLES
from elastic_ray.results.store import Results

HOOKS = Path(__file__).parent / "fault_hooks"
SPEC = """
sweep: disturbed
task: reviews
models:
  - {name: little, init: {hidden_size: 32, layers: 1}, pretrain: [64]}
positive: POSITIVE
negative: NEGATIVE
seeds: [0]
training: {learning_rate: 2.0e-3, global_batch: 8, pretrain: {global_batch: 32}}
generation: {prompts: 8, max_tokens: 8}
resources: {engines: {engine: transformers, replicas: 1}, scorers: {engine: transformers}}
"""
BEFORE = SPEC.replace("POSITIVE", "[32]").replace("NEGATIVE", "[0, 16]")
WHOLE = SPEC.replace("POSITIVE", "[32, 64]").replace("NEGATIVE", "[0, 16, 32, 48]")
INTERVAL = 32
"""Largest number of examples between two snapshots of a ladder of this sweep."""
COMPARED = ("states", "cells", "responses", "scores", "indices")
QUICK = {
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "12",
    "RAY_worker_niceness": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_DEDUP_LOGS": "0",
}
HEAD = {
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 4,
}
"""Ray declares an unresponsive node dead after about ten seconds; its default is a minute."""


Meanwhile = Callable[["Disturbed", dict[str, Any], "subprocess.Popen[str]"], None]
"""Injects a fault after a process has reached a point; its second argument describes the point."""


@dataclass(frozen=True)
class Fault:
    """A fault at the (`skip` + 1)th time that a process reaches `point`.

    `how` is the fault of that process itself. `meanwhile` injects a fault somewhere else.
    """

    point: str
    how: str
    skip: int = 0
    meanwhile: Meanwhile | None = None


@dataclass
class Seen:
    """Outcome of a sweep with faults; `problems` are its differences from correct behaviour."""

    problems: list[str] = field(default_factory=list)
    runs: int = 0
    """How often the command was started."""
    seconds: float = 0.0
    again: int = 0
    """Examples that were trained again, compared with the sweep without faults."""
    reached: set[str] = field(default_factory=set)
    """Points that processes have reached."""
    printed: str = ""


class Disturbed:
    """A cluster, and sweeps on it whose files are below `folder`."""

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str] | None = None,
        scorers: Path | None = None,
    ) -> None:
        """`scorers` is the scorers folder of other results; with it, the sweep trains no scorer."""
        self.folder = folder
        self.hooks = folder / "hooks"
        self.hooks.mkdir(parents=True)
        self.environment = {
            **os.environ,
            **QUICK,
            **KEYS,
            "ELASTIC_RAY_COPIES": str(folder / "copies"),
            **(environment or {}),
            "FAULTS": str(self.hooks),
            "PYTHONPATH": os.pathsep.join(
                [str(HOOKS), str(HOOKS.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        }
        self._opened = ExitStack()
        self.store = self._opened.enter_context(object_store())
        self.cluster: Any = None
        self.restart()
        (folder / "before.yaml").write_text(BEFORE)
        (folder / "whole.yaml").write_text(WHOLE)
        self.half = folder / "half"
        if scorers is not None:
            shutil.copytree(scorers, self.half / "scorers")
        self._whole(self.half, "before.yaml")
        self.steps_of_half = self._steps()
        self.undisturbed = folder / "undisturbed"
        shutil.copytree(self.half, self.undisturbed)
        self._whole(self.undisturbed, "whole.yaml")
        self.steps = self._steps()

    def _whole(self, results: Path, spec: str) -> None:
        """Run a sweep to its end without faults, with fresh step counts."""
        shutil.rmtree(self.hooks / "steps", ignore_errors=True)
        (self.hooks / "steps").mkdir()
        run = self.start(results, self.folder / spec)
        out = run.communicate(timeout=600)[0]
        if run.returncode:
            raise RuntimeError(f"the sweep without faults failed: {out}")

    # The cluster.

    def restart(self) -> None:
        """Start a new cluster; shut down what remains of the previous one."""
        from ray.cluster_utils import Cluster

        self._end()
        with self._as_environment():
            self.cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 0, "include_dashboard": False, "_system_config": HEAD
                },
            )  # fmt: skip
        for _ in range(2):
            self.add_node()

    def add_node(self) -> None:
        with self._as_environment():
            self.cluster.add_node(num_cpus=2, include_dashboard=False)

    def node(self, name: str) -> Any:
        """Return the worker node with that id."""
        return next(each for each in self.cluster.worker_nodes if each.node_id == name)

    def lose(self, name: str) -> None:
        """Kill a worker node's raylet if it still exists; all processes of the node die with it."""
        for node in [each for each in self.cluster.worker_nodes if each.node_id == name]:
            self._kill(node)

    def _kill(self, node: Any) -> None:
        _raylet(node).kill()  # no effect if it has exited, as that of a drained node has
        self.cluster.worker_nodes.discard(node)

    def raylet(self, name: str) -> int:
        """Return the process id of a worker node's raylet."""
        return _raylet(self.node(name)).pid

    def gcs(self) -> int:
        """Return the process id of the head's control store (GCS)."""
        [info] = self.cluster.head_node.all_processes["gcs_server"]
        return int(info.process.pid)

    def drain(self, name: str, seconds: float) -> None:
        """Announce that a worker node will be taken away, as a cloud does for a spot instance.

        Ray ends the node earlier if it becomes idle.
        """
        subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "drain-node",
             f"--address={self.cluster.address}", f"--node-id={name}",
             "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=taken back",
             f"--deadline-remaining-seconds={seconds:.0f}"],
            check=True,
            env=self.environment,
        )  # fmt: skip

    def mend(self) -> None:
        """Remove pending faults, release waiting processes, restore two responsive worker nodes."""
        for path in self.hooks.glob("armed-*"):
            path.unlink(missing_ok=True)
        self.go_on()
        alive = {node["NodeID"] for node in self.cluster.global_state.node_table() if node["Alive"]}
        leaving = self.cluster.global_state.get_draining_nodes()
        for node in list(self.cluster.worker_nodes):
            standing = _stands_still(_raylet(node).pid)
            if node.node_id not in alive or node.node_id in leaving or standing:
                self._kill(node)
        while len(self.cluster.worker_nodes) < 2:
            self.add_node()

    def close(self) -> None:
        self._end()
        self._opened.close()

    def _end(self) -> None:
        """Shut the cluster down.

        Ray does not disconnect the client that reads the cluster's state. Its threads would keep
        running, and crash when this process exits, so it is disconnected here.
        """
        if self.cluster is not None:
            self.cluster.global_state.disconnect()
            self.cluster.shutdown()
            self.cluster = None

    @contextmanager
    def _as_environment(self) -> Iterator[None]:
        """Set `self.environment` inside the context; Ray's processes inherit it."""
        before = dict(os.environ)
        os.environ.update(self.environment)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    # A sweep.

    def start(self, results: Path | str, spec: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "elastic_ray.sweep", str(spec or self.folder / "whole.yaml"),
             "--results", str(results)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**self.environment, "RAY_ADDRESS": self.cluster.address},
            cwd=self.folder,
            start_new_session=True,
        )  # fmt: skip

    def run(
        self, name: str, faults: Sequence[Fault], limit: float = 900.0, on_store: bool = False
    ) -> Seen:
        """Run a copy of the half-finished sweep while each fault occurs once.

        The command is repeated until it succeeds, at most three times. `on_store` stores the
        results in the object store.
        """
        results = self.copy(name, on_store)
        seen, began = Seen(), time.monotonic()
        self._arm(faults)
        while seen.runs < 3:
            seen.runs += 1
            run = self.start(results)
            seen.printed += self._attend(run, seen, faults, limit)
            if run.returncode == 0:
                break
        else:
            seen.problems.append(f"not finished after three runs: {seen.printed[-2000:]}")
        seen.seconds = time.monotonic() - began
        missed = [fault.point for fault in faults if fault.point not in seen.reached]
        if missed:
            seen.problems.append(f"no process reached {', '.join(missed)}")
        seen.problems += self.compare(results)
        again = self._steps() - self.steps
        seen.again = sum(count for count in again.values() if count > 0)
        if seen.again > INTERVAL * sum(map(_ends_trainers, faults)):
            seen.problems.append(f"{seen.again} examples were trained again")
        self.delete(results)
        return seen

    def copy(self, name: str, on_store: bool) -> str:
        """Copy the half-finished results, on disk or in the object store; return their location."""
        results = self.store.uri(name) if on_store else str(self.folder / name)
        target, path = pafs.FileSystem.from_uri(results)
        pafs.copy_files(str(self.half), path, pafs.LocalFileSystem(), target, use_threads=False)
        return results

    def delete(self, results: str) -> None:
        target, path = pafs.FileSystem.from_uri(results)
        target.delete_dir(path)

    def _arm(self, faults: Sequence[Fault]) -> None:
        shutil.rmtree(self.hooks)
        (self.hooks / "steps").mkdir(parents=True)
        for fault in faults:
            arming = self.hooks / "arming"
            arming.write_text(json.dumps({"how": fault.how, "skip": fault.skip}))
            arming.rename(self.hooks / f"armed-{fault.point}")

    def _attend(
        self, run: subprocess.Popen[str], seen: Seen, faults: Sequence[Fault], limit: float
    ) -> str:
        deadline = time.monotonic() + limit
        ended = False
        while not ended:
            ended = run.poll() is not None or time.monotonic() > deadline
            for fault in faults:
                reached = self.hooks / f"reached-{fault.point}"
                if fault.point not in seen.reached and reached.exists():
                    seen.reached.add(fault.point)
                    if fault.meanwhile is not None:
                        fault.meanwhile(self, json.loads(reached.read_text()), run)
            time.sleep(0.1)
        if run.poll() is None:
            seen.problems.append(f"still running after {limit:.0f} s")
            run.send_signal(signal.SIGCONT)
            run.kill()
        return run.communicate()[0]

    def go_on(self) -> None:
        """Release the process that waits at a point."""
        (self.hooks / "go").touch()

    def _steps(self) -> Counter[str]:
        """Return the trained examples by ladder."""
        learnt: Counter[str] = Counter()
        for path in (self.hooks / "steps").iterdir():
            for line in path.read_text().splitlines():
                ladder, _, examples = line.split()
                learnt[ladder] += int(examples)
        return learnt

    def compare(self, results: Path | str) -> list[str]:
        """Return differences from the rows of the sweep without faults, and duplicate rows."""
        there, known = Results(str(results), read_only=True), Results(str(self.undisturbed))
        problems = []
        for table in COMPARED:
            # The commit may have changed since then.
            apart = ("git_revision",) if table == "states" else ()
            rows, wanted = (rows_of(each, "disturbed", table, *apart) for each in (there, known))
            key = TABLES[table].key
            twice = [k for k, n in Counter(tuple(r[c] for c in key) for r in rows).items() if n > 1]
            if twice:
                problems.append(f"{table}: {len(twice)} rows are recorded twice")
            for row in (*rows, *wanted) if table in ROUNDED else ():
                row[ROUNDED[table][0]] = round(row[ROUNDED[table][0]], 4)
            if rows != wanted:
                pairs = list(zip(rows, wanted, strict=False))
                differ = sorted({name for a, b in pairs for name in a if a[name] != b[name]})
                problems.append(
                    f"{table}: {len(rows)} rows, {len(wanted)} without faults; "
                    f"they differ in {', '.join(differ)}"
                )
        return problems


def _ends_trainers(fault: Fault) -> bool:
    """Return whether a trainer may restart from a snapshot because of the fault."""
    return fault.meanwhile is not None or fault.point.startswith(("trainer", "driver"))


def _raylet(node: Any) -> subprocess.Popen[bytes]:
    [info] = node.all_processes["raylet"]
    process: subprocess.Popen[bytes] = info.process
    return process


def _stands_still(pid: int) -> bool:
    """Return whether a process is stopped, a zombie, or does not exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZX"
    except OSError:
        return True
