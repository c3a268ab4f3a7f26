"""A swap in vLLM is proven: every tensor is compared, and every fault of a reload is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the training extra is not installed")

from swap_faults import FAULTS

from elastic_ray.serving.engines.vllm_layout import not_covered
from elastic_ray.serving.engines.vllm_runtime import vllm_unavailable_reason

ROOT = Path(__file__).parents[2]
SHORT = ("llama", "gemma", "gpt2")
"""Families for which only a swap without faults is made; gemma and gpt2 have tied embeddings."""


def outcome(root: Path, family: str, ranks: int) -> dict[str, Any]:
    """What came of each swap of `swap_faults`; one entry per rank."""
    if (reason := vllm_unavailable_reason()) is not None:
        pytest.skip(f"vLLM is not available: {reason}")
    script = ROOT / "tests" / "support" / "swap_faults.py"
    done = subprocess.run(
        [sys.executable, str(script), str(root), family, str(ranks)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{script.parent}"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((root / "outcome.json").read_text())
    return found


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def swaps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return outcome(tmp_path_factory.mktemp("swaps"), "qwen2", request.param)


def assert_proven(ranks: list[dict[str, Any]]) -> None:
    assert all("error" not in rank for rank in ranks), ranks
    assert not_covered([rank["covered"] for rank in ranks]) == []
    assert {rank["tensors"] for rank in ranks} == {len(ranks[0]["covered"])}
    assert {rank["probed"] for rank in ranks} == {9}, "four layers of each block, and the output's"


@pytest.mark.integration
@pytest.mark.slow
def test_a_swap_compares_every_tensor_on_every_rank(swaps: dict[str, Any]) -> None:
    good = [name for name in swaps if name.startswith(("good", "back"))]
    assert len(good) == len(FAULTS) + 2
    for name in good:
        assert_proven(swaps[name])
    assert len(swaps["good"][0]["covered"]) == 27


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_reload_is_found(swaps: dict[str, Any], fault: str) -> None:
    """The engine held other weights before, and holds good ones again after the next swap."""
    errors = [rank["error"] for rank in swaps[fault] if "error" in rank]
    assert errors and all("differs from" in e or "did not load" in e for e in errors)


@pytest.mark.integration
@pytest.mark.slow
def test_files_that_changed_after_hashing_are_refused(swaps: dict[str, Any]) -> None:
    """One bit is flipped and the file's times are set back."""
    for rank in swaps["changed after hashing"]:
        assert "written after their checksum was verified" in rank["error"]


@pytest.mark.integration
@pytest.mark.slow
def test_files_with_fewer_or_more_tensors_than_the_model_are_refused(swaps: dict[str, Any]) -> None:
    assert all("holds 3 matrices" in rank["error"] for rank in swaps["fewer tensors"])
    assert all("holds nothing of" in rank["error"] for rank in swaps["more tensors"])


@pytest.mark.integration
@pytest.mark.slow
def test_layers_that_compute_with_old_packed_weights_are_found(swaps: dict[str, Any]) -> None:
    if len(swaps["good"]) > 1:
        pytest.skip("the same on every rank")
    assert "was not packed anew" in swaps["not packed anew"][0]["error"]
    assert "does not compute with" in swaps["packed from old weights"][0]["error"]


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("family", SHORT)
def test_other_architectures_are_compared_whole(tmp_path: Path, family: str) -> None:
    assert_proven(outcome(tmp_path, family, 1)["good"])


def test_a_tensor_of_which_no_rank_compared_a_part_is_named() -> None:
    halves = [{"a": [[8], [0, 4]], "b": [[6], [0, 6]]}, {"a": [[8], [4, 8]], "b": [[6], [0, 6]]}]
    assert not_covered(halves) == []
    assert not_covered(halves[:1]) == ["a"]
    assert not_covered([{"a": [[8], [0, 3]]}, {"a": [[8], [4, 8]]}]) == ["a"]
    assert not_covered([{"qkv": [[9], [6, 9], [0, 3], [3, 6]]}]) == []
