"""Sweeps on GPUs that Ray only was told of: phases in turns, side by side, states as on CPUs."""

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


TRAINED = "SELECT state_id, checksum, losses FROM states WHERE status = 'done' AND kind != 'lesson'"
"""What does not depend on the engine: these sweeps take the one that starts fast."""
FAST = (
    "resources.engines.engine=transformers",
    "probes.code_length=null",
    "models.0.pretrain=[640]",
)


@pytest.fixture(scope="module")
def in_turns(
    little_spec: Path, scorers: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Results, str]:
    results = tmp_path_factory.mktemp("in_turns")
    printed = run(little_spec, results, scorers, ONE_GPU, *FAST, "negative=[0, 8]")
    return Results(results, read_only=True), printed


def test_on_one_gpu_training_and_evaluation_take_turns(in_turns: tuple[Results, str]) -> None:
    turns = re.findall(r"(training|evaluation) pauses for \d+", in_turns[1])
    # Lessons train on answers, so training has a second turn.
    assert turns[:3] == ["training", "evaluation", "training"]
    assert {cell["status"] for cell in in_turns[0].cells("little")} == {"done"}
    lessons = in_turns[0].read("lessons", sweep="little").to_pylist()
    assert [lesson["status"] for lesson in lessons] == ["done", "done"]


def test_what_one_gpu_trains_is_what_cpus_train(
    undisturbed: tuple[Path, str], in_turns: tuple[Results, str]
) -> None:
    rows = in_turns[0].query(TRAINED).to_pylist()
    known = Results(undisturbed[0], read_only=True).query(TRAINED).to_pylist()
    assert len(rows) == 6 and all(row in known for row in rows)


def test_on_two_nodes_of_two_gpus_all_parts_run_side_by_side(
    little_spec: Path, scorers: Path, undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    sets = (*FAST, "positive=[16]", "lessons=null")
    printed = run(little_spec, tmp_path / "results", scorers, TWO_NODES, *sets)
    assert "pauses for" not in printed
    there = Results(tmp_path / "results", read_only=True)
    rows = there.query(TRAINED).to_pylist()
    known = Results(undisturbed[0], read_only=True).query(TRAINED).to_pylist()
    assert len(rows) == 6 and all(row in known for row in rows)
    assert {cell["status"] for cell in there.cells("little")} == {"done"}
