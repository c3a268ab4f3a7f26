"""`ray up` with docs/cluster-local.yaml on three hosts, a sweep across them, and `ray down`."""

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
"""A trainer has more workers than a host has CPUs, so each of them is on both hosts."""
STATES = 1 + 1 + 1 + 2
"""The start, pre-trained, positive, and turned back twice."""
ON_ONE_MACHINE = ("--set", "training.cpus_per_worker=0.4")
"""Room for the same three workers on two cores; the states do not depend on it."""
MONITOR = "/tmp/ray/session_latest/logs/monitor.out"
"""What the head writes while it sets the workers up."""
PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s=10 RAY_DASHBOARD_AGENT_CHECK_PARENT_INTERVAL_S=2"
"""How long a worker waits for a head that is gone, and five looks of what waits for the worker; by
itself Ray takes a minute for each."""


@dataclass(frozen=True)
class Run:
    """What was seen of the one run that all tests here look at."""

    up: CompletedProcess[str]
    sweep: CompletedProcess[str]
    results: Path
    trained_at: Counter[str]
    """Address -> the workers of trainers that ran there."""
    down: CompletedProcess[str]
    left_there: list[str]
    """Processes on the desk and the hosts that were not there before `ray up`."""
    left_here: list[str]
    """What this machine has more than before."""


def cluster_file() -> str:
    """docs/cluster-local.yaml, filled in; what else differs is said here."""
    config = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    config["auth"]["ssh_user"] = "root"
    # The environment is on the hosts already, and the package index is out of reach: pip finds the
    # tools that it is asked for, and has only the project's own code to install.
    config["setup_commands"] = [
        f"ln -sfn {sys.prefix} ~/venv && printf '[global]\\nno-index = true\\n' > ~/venv/pip.conf",
        *(each.replace('-e ".[train,gpu]"', "--no-deps -e .") for each in config["setup_commands"]),
    ]
    # Each host sees all of this machine's cores.
    start = config["worker_start_ray_commands"].pop() + " --num-cpus=2"
    config["worker_start_ray_commands"].append(f"export {PATIENCE}; {start}")
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
def run(spec: Path, scorers: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    if reason := lacking(tmp_path_factory.mktemp("probe")):
        pytest.skip(f"no hosts can be made here: {reason}")
    shared = tmp_path_factory.mktemp("shared")
    (shared / "cluster.yaml").write_text(cluster_file())
    (shared / spec.name).write_text(spec.read_text())
    shutil.copytree(scorers, shared / "elastic_ray" / "scorers")
    here = on_this_machine()
    with Hosts(addresses(), shared, tmp_path_factory.mktemp("layers")) as hosts:
        before = running(hosts)

        def ray(command: str, *more: str, limit: float = 900) -> CompletedProcess[str]:
            return hosts.run(RAY, command, *more, at=ROOT, limit=limit)

        def execute(command: str, limit: float = 900) -> CompletedProcess[str]:
            return ray("exec", "/shared/cluster.yaml", command, limit=limit)

        ray("get-auth-token", "--generate")
        up = ray("up", "-y", "/shared/cluster.yaml")
        assert up.returncode == 0, up.stdout
        # As the docs say: wait until the head and all workers are active.
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
        left_here=sorted(on_this_machine() - here),
    )


def trainers(hosts: Hosts) -> Counter[str]:
    """The workers of trainers by address, as the head's Ray knows them."""

    def listed(*asked: str) -> list[dict[str, str]]:
        told = hosts.on(hosts.addresses[0], f"ray list {' '.join(asked)} --format json")
        try:
            found: list[dict[str, str]] = json.loads(told)
        except json.JSONDecodeError:
            raise RuntimeError(f"ray list {asked[0]}: {told}") from None
        return found

    address = {node["node_id"]: node["node_ip"] for node in listed("nodes")}
    workers = listed("actors", "--filter", "class_name=RayTrainWorker")
    return Counter(address[worker["node_id"]] for worker in workers)


def running(hosts: Hosts) -> Counter[str]:
    """Processes on the desk and the hosts, but for the SSH servers: those change their titles."""
    return Counter(each for each in hosts.processes() if "/etc/ssh/own_config" not in each)


def remaining(hosts: Hosts, before: Counter[str]) -> list[str]:
    """What runs on the desk and the hosts since `before`, given time to end."""
    deadline = time.monotonic() + ENDED_WITHIN
    while left := list((running(hosts) - before).elements()):
        if time.monotonic() > deadline:
            break
        time.sleep(2)
    return left


def on_this_machine() -> set[str]:
    """Interfaces, what `ray up` writes in /tmp, and processes that know of the hosts."""
    kept = (("/tmp", "ray-config-*"), ("/tmp", "ray_ssh_*"), ("/tmp/ray", "cluster-*"))
    files = {str(path) for at, pattern in kept for path in Path(at).glob(pattern)}
    interfaces = {name for _, name in socket.if_nameindex()}
    commands = (" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"]))
    processes = {each for each in commands if any(address in each for address in addresses())}
    return files | interfaces | processes


@pytest.mark.slow
def test_ray_up_brings_all_hosts_up(run: Run) -> None:
    assert "Ray runtime started." in run.up.stdout
    assert not any(word in run.up.stdout for word in ("Traceback", "ERROR", "Failed")), (
        run.up.stdout
    )


@pytest.mark.slow
def test_the_sweep_ends_well(run: Run) -> None:
    assert run.sweep.returncode == 0, run.sweep.stdout
    read = Results(run.results, read_only=True).query
    states = read("SELECT status, trial, workers FROM states").to_pylist()
    assert [state["status"] for state in states] == ["done"] * STATES
    assert {state["workers"] for state in states if state["trial"]} == {3}
    assert read("FROM failures").num_rows == 0


@pytest.mark.slow
def test_trainers_are_on_both_workers_at_once(run: Run) -> None:
    head, *workers = addresses()
    assert run.trained_at[head] == 0
    assert all(run.trained_at[worker] for worker in workers)
    assert run.trained_at.total() % 3 == 0


@pytest.mark.slow
@pytest.mark.parametrize("table", ["states", "cells", "responses", "scores", "indices"])
def test_rows_are_those_of_one_machine(run: Run, on_one_machine: Results, table: str) -> None:
    # The commit is recorded as of a changed tree: not all files of the project are on the hosts.
    apart = ("git_revision",) if table == "states" else ()
    there = Results(run.results, read_only=True)
    assert compare(on_one_machine, there, "across", table, *apart)


@pytest.mark.slow
def test_ray_down_leaves_nothing(run: Run) -> None:
    assert run.down.returncode == 0, run.down.stdout
    assert "No nodes remaining." in run.down.stdout
    assert run.left_there == []
    assert run.left_here == []
