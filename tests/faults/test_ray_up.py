"""Runs `ray up` with docs/cluster-local.yaml on three hosts, a sweep on them, and `ray down`.

The hosts are simulated by Linux namespaces (`tests/support/hosts.py`). One more simulated machine,
the client, stands for the user's own; the `ray` commands run there.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray", reason="the training extra is not installed")
from hosts import Hosts, lacking
from same_rows import compare
from sweep_process import ENDED_WITHIN, sweep

from elastic_ray.results.store import Results

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "cluster-local.yaml"
RAY = str(Path(sys.executable).parent / "ray")
SPEC = """
sweep: across
task: reviews
models:
  - {name: little, init: {hidden_size: 32, layers: 1}, pretrain: [384]}
positive: [24]
negative: [0, 12, 24]
training: {learning_rate: 2.0e-3, global_batch: 12, workers: 3}
generation: {prompts: 8, max_tokens: 24}
resources: {engines: {engine: transformers}, scorers: {engine: transformers}}
"""
"""A trainer has more workers than a host has CPUs, so every trainer uses both worker hosts."""
STATES = 1 + 1 + 1 + 2
"""The start state, the pre-trained one, the positive one, and the two negative ones."""
ON_ONE_MACHINE = ("--set", "training.cpus_per_worker=0.4")
"""Lets the same three workers run on two cores; it does not affect the states."""
MONITOR = "/tmp/ray/session_latest/logs/monitor.out"
"""The head's log of setting up the workers."""
SHORT_TIMEOUTS = (
    "RAY_gcs_rpc_server_reconnect_timeout_s=10 RAY_DASHBOARD_AGENT_CHECK_PARENT_INTERVAL_S=2"
)
"""How long a worker waits for a lost head, and the interval at which the dashboard agent checks for
its parent (it exits after five checks). With Ray's defaults each takes a minute."""


@dataclass(frozen=True)
class Run:
    """Observations of the single run that all tests in this module check."""

    up: CompletedProcess[str]
    sweep: CompletedProcess[str]
    results: Path
    trained_at: Counter[str]
    """Address -> number of trainer workers that ran there."""
    down: CompletedProcess[str]
    left_there: list[str]
    """Processes on the client and the hosts that did not exist before `ray up`."""
    left_here: list[str]
    """Files, network interfaces and processes that this machine did not have before."""


def cluster_file() -> str:
    """Return docs/cluster-local.yaml with the user filled in and the changes commented below."""
    config = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    config["auth"]["ssh_user"] = "root"
    # The hosts have the Python environment already and cannot reach the package index. The required
    # tools are installed, so pip only has to install the project's own code.
    config["setup_commands"] = [
        f"ln -sfn {sys.prefix} ~/venv && printf '[global]\\nno-index = true\\n' > ~/venv/pip.conf",
        *(line.replace('-e ".[train,gpu]"', "--no-deps -e .") for line in config["setup_commands"]),
    ]
    # Without --num-cpus, Ray would count all of this machine's cores on every host.
    start = config["worker_start_ray_commands"].pop() + " --num-cpus=2"
    config["worker_start_ray_commands"].append(f"export {SHORT_TIMEOUTS}; {start}")
    return str(yaml.safe_dump(config))


def addresses() -> tuple[str, ...]:
    provider = yaml.safe_load(FILE.read_text(encoding="utf-8"))["provider"]
    return (provider["head_ip"], *provider["worker_ips"])


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "across.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def on_one_machine(spec: Path, scorers: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    results = tmp_path_factory.mktemp("one_machine")
    shutil.copytree(scorers, results / "scorers")
    out = sweep(spec, results, *ON_ONE_MACHINE, limit=1200)
    assert out.returncode == 0, out.stdout + out.stderr
    return Results(results, read_only=True)


@pytest.fixture(scope="module")
def run(
    only_hosts: None, spec: Path, scorers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    if reason := lacking(tmp_path_factory.mktemp("probe")):
        pytest.skip(f"cannot simulate hosts here: {reason}")
    shared = tmp_path_factory.mktemp("shared")
    (shared / "cluster.yaml").write_text(cluster_file())
    (shared / spec.name).write_text(spec.read_text())
    shutil.copytree(scorers, shared / "elastic_ray" / "scorers")
    before_here = on_this_machine()
    with Hosts(addresses(), shared, tmp_path_factory.mktemp("layers")) as hosts:
        before = running(hosts)

        def ray(command: str, *arguments: str, limit: float = 900) -> CompletedProcess[str]:
            return hosts.run(RAY, command, *arguments, at=ROOT, limit=limit)

        def execute(command: str, limit: float = 900) -> CompletedProcess[str]:
            return ray("exec", "/shared/cluster.yaml", command, limit=limit)

        ray("get-auth-token", "--generate")
        up = ray("up", "-y", "/shared/cluster.yaml")
        assert up.returncode == 0, up.stdout
        # Wait until the head and all workers are active, as the docs recommend.
        active = f"ray status | grep -q '^ {len(addresses())} local.cluster.node'"
        joined = execute(f"for i in $(seq 100); do {active} && exit 0; sleep 2; done; exit 1")
        assert joined.returncode == 0, joined.stdout + hosts.on(
            hosts.addresses[0], f"cat {MONITOR}"
        )
        swept = execute(
            f"cd elastic_ray && python -m elastic_ray.sweep /shared/{spec.name} "
            "--results $ELASTIC_RAY_RESULTS",
            limit=1500,
        )
        trained_at = trainers(hosts)
        down = ray("down", "-y", "/shared/cluster.yaml")
        left_there = remaining(hosts, before)
    return Run(
        up=up,
        sweep=swept,
        results=shared / "elastic_ray",
        trained_at=trained_at,
        down=down,
        left_there=left_there,
        left_here=sorted(on_this_machine() - before_here),
    )


def trainers(hosts: Hosts) -> Counter[str]:
    """Count the trainer workers by address, from `ray list` on the head."""

    def listed(*arguments: str) -> list[dict[str, str]]:
        output = hosts.on(hosts.addresses[0], f"ray list {' '.join(arguments)} --format json")
        try:
            items: list[dict[str, str]] = json.loads(output)
        except json.JSONDecodeError:
            raise RuntimeError(f"ray list {arguments[0]}: {output}") from None
        return items

    address = {node["node_id"]: node["node_ip"] for node in listed("nodes")}
    workers = listed("actors", "--filter", "class_name=RayTrainWorker")
    return Counter(address[worker["node_id"]] for worker in workers)


def running(hosts: Hosts) -> Counter[str]:
    """Count the processes on the client and the hosts by command line.

    SSH servers are excluded, because they change their process titles.
    """
    return Counter(line for line in hosts.processes() if "/etc/ssh/own_config" not in line)


def remaining(hosts: Hosts, before: Counter[str]) -> list[str]:
    """Return the processes not in `before`; wait up to `ENDED_WITHIN` seconds for them to end."""
    deadline = time.monotonic() + ENDED_WITHIN
    while left := list((running(hosts) - before).elements()):
        if time.monotonic() > deadline:
            break
        time.sleep(2)
    return left


def on_this_machine() -> set[str]:
    """Return network interfaces, the files of `ray up` in /tmp, and processes that name a host."""
    patterns = (("/tmp", "ray-config-*"), ("/tmp", "ray_ssh_*"), ("/tmp/ray", "cluster-*"))
    files = {str(path) for folder, pattern in patterns for path in Path(folder).glob(pattern)}
    interfaces = {name for _, name in socket.if_nameindex()}
    commands = (" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))
    processes = {line for line in commands if any(address in line for address in addresses())}
    return files | interfaces | processes


@pytest.mark.slow
def test_ray_up_starts_all_hosts(run: Run) -> None:
    assert "Ray runtime started." in run.up.stdout
    assert not any(word in run.up.stdout for word in ("Traceback", "ERROR", "Failed")), (
        run.up.stdout
    )


@pytest.mark.slow
def test_the_sweep_succeeds(run: Run) -> None:
    assert run.sweep.returncode == 0, run.sweep.stdout
    read = Results(run.results, read_only=True).query
    states = read("SELECT status, trial, workers FROM states").to_pylist()
    assert [state["status"] for state in states] == ["done"] * STATES
    assert {state["workers"] for state in states if state["trial"]} == {3}
    assert read("FROM failures").num_rows == 0


@pytest.mark.slow
def test_every_trainer_uses_both_worker_hosts(run: Run) -> None:
    head, *workers = addresses()
    assert run.trained_at[head] == 0
    assert all(run.trained_at[worker] for worker in workers)
    assert run.trained_at.total() % 3 == 0


@pytest.mark.slow
@pytest.mark.parametrize("table", ["states", "cells", "responses", "scores", "indices"])
def test_rows_equal_those_of_a_single_machine(
    run: Run, on_one_machine: Results, table: str
) -> None:
    # The hosts do not have all files of the project, so the commit is recorded as modified there.
    excluded = ("git_revision",) if table == "states" else ()
    results = Results(run.results, read_only=True)
    assert compare(on_one_machine, results, "across", table, *excluded)


@pytest.mark.slow
def test_ray_down_leaves_nothing_behind(run: Run) -> None:
    assert run.down.returncode == 0, run.down.stdout
    assert "No nodes remaining." in run.down.stdout
    assert run.left_there == []
    assert run.left_here == []
