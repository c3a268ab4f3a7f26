"""Described clusters, nodes reported by Ray, and the layouts that `--dry-run` prints of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_imports import WITHOUT

from elastic_ray.placement import GPUS, describe_nodes, nodes_from_ray, parse_cluster
from elastic_ray.placement.bin_packing import Bundle, FreeResources
from elastic_ray.spec import SpecError
from elastic_ray.sweep.__main__ import main

ROOT = Path(__file__).parents[2]
PAPER = ("existence", "qwen_scale", "tinyllama_tokens")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("4x8xA100", "4 nodes of 8 A100 and 64 CPUs"),
        ("1x4xl40s:48cpu", "1 node of 4 L40S and 48 CPUs"),
        ("2x64cpu", "2 nodes of 64 CPUs"),
        ("2x8xH100 + 1x64cpu", "2 nodes of 8 H100 and 64 CPUs, 1 of 64 CPUs"),
    ],
)
def test_a_description_names_its_nodes(text: str, words: str) -> None:
    assert describe_nodes(parse_cluster(text)) == words


parts = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 16), st.sampled_from(sorted(GPUS))),
    st.tuples(st.integers(1, 9), st.integers(1, 999), st.none()),
)


@given(st.lists(parts, min_size=1, max_size=4))
def test_every_described_node_occurs_once(asked: list[tuple[int, int, str | None]]) -> None:
    text = "+".join(f"{n}x{m}x{kind}" if kind else f"{n}x{m}cpu" for n, m, kind in asked)
    nodes = parse_cluster(text)
    assert len({node.name for node in nodes}) == len(nodes) == sum(n for n, _, _ in asked)
    assert sum(node.gpus for node in nodes) == sum(n * m for n, m, kind in asked if kind)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' does not describe nodes"),
        ("4x8", "'4x8' does not describe"),
        ("A100", "'A100' does not describe"),
        ("4x8xA100+", "'' does not describe"),
        ("-4x8xA100", "'-4x8xA100' does not describe"),
        ("4x8xA1000", "'A1000' is not among A100, A100-40G"),
        ("0x8xA100", "contains a zero"),
        ("4x0xA100", "contains a zero"),
        ("4x0cpu", "contains a zero"),
        ("999x1cpu+2x1cpu", "at most 1,000 nodes"),
    ],
)
def test_an_invalid_description_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], text: str, why: str
) -> None:
    with pytest.raises(SpecError) as error:
        parse_cluster(text)
    assert str(error.value).startswith(f"--cluster: found {text!r}: ")
    assert why in str(error.value) and "must be like 4x8xA100" in str(error.value)
    assert main([str(ROOT / "sweeps" / "tiny.yaml"), "--dry-run", f"--cluster={text}"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: --cluster: found")


def test_a_described_cluster_is_only_for_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(ROOT / "sweeps" / "tiny.yaml"), "--cluster", "4x8xA100"]) == 2
    assert "--cluster: is for --dry-run" in capsys.readouterr().err


def test_nodes_are_read_from_ray() -> None:
    def node(name: str, alive: bool = True, **resources: float) -> dict[str, object]:
        return {
            "NodeID": name,
            "Alive": alive,
            "NodeManagerHostname": f"host-{name}",
            "Resources": {
                each.replace("__", ":").replace("_40", "-40"): n for each, n in resources.items()
            },
        }

    records = [
        node("c", CPU=8.0, GPU=2.0, accelerator_type__H100=1.0, memory=1e9),
        node("b", CPU=4.0),
        node("head", memory=1e9),
        node("gone", alive=False, CPU=64.0),
        node("a", CPU=8.0, GPU=1.0, accelerator_type__A100=1.0),
    ]
    nodes = nodes_from_ray(records)
    assert [(n.name, n.cpus, n.gpus, n.gpu_type) for n in nodes] == [
        ("a", 8.0, 1, "A100-40G"),
        ("b", 4.0, 0, None),
        ("c", 8.0, 2, "H100"),
    ]
    large = [node("a", CPU=8.0, GPU=1.0, accelerator_type__A100=1.0)]
    large[0]["Resources"]["accelerator_type:A100-80G"] = 1.0  # type: ignore[index]
    assert nodes_from_ray(large)[0].gpu_type == "A100-80G"


@given(
    st.lists(
        st.tuples(st.sampled_from([0.25, 1.0]), st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0])),
        max_size=30,
    ),
    st.data(),
)
def test_released_resources_are_free_again(
    needs: list[tuple[float, float]], data: st.DataObject
) -> None:
    nodes = parse_cluster("2x2xA100:4cpu+1x3cpu")
    room = FreeResources(nodes)
    taken = [got for need in needs if (got := room.allocate(Bundle(*need)))]
    data.draw(st.randoms()).shuffle(taken)
    for got in taken:
        room.release(got)
    whole = [sum(room.capacity_for(node.name, Bundle(1.0)) for node in nodes)]
    assert whole == [11]
    assert all(room.capacity_for(node.name, Bundle(0.25, 2.0)) == node.gpus // 2 for node in nodes)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_sweeps_on_described_clusters(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(ROOT / "sweeps" / f"{name}.yaml")
    longest = {}
    for cluster in ("2x8xA100", "4x8xA100", "4x8xH100"):
        assert main([file, "--dry-run", "--cluster", cluster]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert f"layout on {cluster}: {cluster[0]} nodes of 8 {cluster[4:]} and 64 CPUs" in out
        [line] = [line for line in out.splitlines() if line.startswith("wall-clock time: ")]
        parts = re.findall(r"(?:training|answers|scores) about ([\d.]+) (min|h)", line)
        assert len(parts) == 3, line
        longest[cluster] = max(float(n) * {"min": 1, "h": 60}[unit] for n, unit in parts)
        [idle] = [line for line in out.splitlines() if line.startswith("idle or starting: ")]
        assert len(re.findall(r"(\d+)%", idle)) == 3
        assert "an engine has as few GPUs as hold its weights" in out
    assert longest["2x8xA100"] >= longest["4x8xA100"] >= longest["4x8xH100"]


def test_a_sweep_that_does_not_fit_on_a_described_cluster_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = str(ROOT / "sweeps" / "existence.yaml")
    four = ["--set", "training.workers=4"]
    assert main([file, "--dry-run", "--cluster", "1x2xA100", *four]) == 2
    err = capsys.readouterr().err
    assert "resources: 1 trainer (4 x 1 CPU and 1 GPU) need" in err
    assert "the cluster has 16 and 2" in err


def test_a_sweep_that_fits_in_turns_only_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(ROOT / "sweeps" / "existence.yaml")
    assert main([file, "--dry-run", "--cluster", "1x2xA100"]) == 0
    assert "in turns: training, then answers and scores together" in capsys.readouterr().out


def test_a_sweep_that_does_not_fit_here_is_noted_in_a_dry_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    file = str(ROOT / "sweeps" / "tiny.yaml")
    assert main([file, "--dry-run", "--set", "training.workers=999"]) == 0
    out = capsys.readouterr().out
    assert "no layout on this machine: resources: 1 trainer (999 x" in out
    assert "to see a layout on another cluster: --cluster 4x8xA100" in out
    assert main([file, "--dry-run", "--set", "training.cpus_per_worker=0.1"]) == 0
    assert "layout on this machine: 1 node of " in capsys.readouterr().out


def test_a_named_cluster_that_does_not_answer_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert main([str(ROOT / "sweeps" / "tiny.yaml"), "--dry-run"]) == 0
    assert "RAY_ADDRESS: found 127.0.0.1:1; nothing answers there" in capsys.readouterr().out


def test_a_described_cluster_needs_no_ray(tmp_path: Path) -> None:
    command = ("elastic_ray.sweep", str(ROOT / "sweeps" / "tiny.yaml"), "--dry-run")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *command, "--cluster", "2x4xL4"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "layout on 2x4xL4: 2 nodes of 4 L4 and 32 CPUs" in done.stdout
