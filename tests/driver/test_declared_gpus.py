"""Sweeps on GPUs that Ray only was told of: phases in turns, shared GPUs, the rows of a CPU run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from elastic_ray.results.store import Results

pytest.importorskip("ray", reason="the training extra is not installed")
from same_rows import COMPARED, compare
from sweep_process import ALONE, nothing_is_left, sweep

pytestmark = pytest.mark.integration

HEAD = """
import json, sys
from ray.cluster_utils import Cluster
nodes = json.loads(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={**nodes[0], "include_dashboard": False})
for node in nodes[1:]:
    cluster.add_node(**node, include_dashboard=False)
print("at", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
DECLARED = {**ALONE, "ELASTIC_RAY_DECLARED_GPUS": "1"}
ONE_GPU = '[{"num_cpus": 2, "num_gpus": 1}]'
"""A node with one GPU of unknown type: nothing may be assumed to fit beside a trainer."""
TWO_NODES = (
    '[{"num_cpus": 2, "num_gpus": 2, "resources": {"accelerator_type:A100": 1}},'
    ' {"num_cpus": 2, "num_gpus": 2, "resources": {"accelerator_type:A100": 1}}]'
)


@contextmanager
def cluster(nodes: str) -> Iterator[dict[str, str]]:
    """A Ray cluster of these nodes; yields the environment of a sweep that joins it."""
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD, nodes],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=DECLARED,
    )
    assert head.stdout is not None
    try:
        address = next((line.split()[1] for line in head.stdout if line.startswith("at ")), None)
        assert address is not None, "Ray did not start"
        yield {**DECLARED, "RAY_ADDRESS": address}
    finally:
        head.communicate()
    nothing_is_left()


def run(spec: Path, results: Path, scorers: Path, nodes: str, *sets: str) -> str:
    """Run the sweep on such a cluster; return what it printed."""
    shutil.copytree(scorers, results / "scorers")
    words = [part for each in sets for part in ("--set", each)]
    with cluster(nodes) as environment:
        out = sweep(spec, results, *words, environment=environment)
    assert out.returncode == 0, out.stdout + out.stderr
    return out.stdout


@pytest.fixture(scope="module")
def in_turns(
    little_spec: Path, scorers: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Results, str]:
    results = tmp_path_factory.mktemp("in_turns")
    printed = run(little_spec, results, scorers, ONE_GPU)
    return Results(results, read_only=True), printed


def test_on_one_gpu_training_and_evaluation_take_turns(in_turns: tuple[Results, str]) -> None:
    turns = re.findall(r"(training|evaluation) pauses for \d+", in_turns[1])
    # Lessons train on answers, so training has a second turn.
    assert turns[:3] == ["training", "evaluation", "training"]


@pytest.mark.parametrize("table", COMPARED)
def test_rows_of_one_gpu_are_those_of_cpus(
    undisturbed: tuple[Path, str], in_turns: tuple[Results, str], table: str
) -> None:
    assert compare(Results(undisturbed[0], read_only=True), in_turns[0], "little", table)


SMALL = ("models.0.pretrain=[640]", "positive=[16]", "lessons=null", "probes.code_length=null")


def test_on_two_nodes_of_two_gpus_all_parts_run_side_by_side(
    little_spec: Path, scorers: Path, undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    sets = (*SMALL, "resources.engines.engine=transformers")
    printed = run(little_spec, tmp_path / "results", scorers, TWO_NODES, *sets)
    assert "pauses for" not in printed
    there = Results(tmp_path / "results", read_only=True)
    sql = "SELECT state_id, checksum, losses FROM states WHERE status = 'done'"
    known = Results(undisturbed[0], read_only=True).query(sql).to_pylist()
    rows = there.query(sql).to_pylist()
    assert len(rows) == 6 and all(row in known for row in rows)
    assert {cell["status"] for cell in there.cells("little")} == {"done"}
