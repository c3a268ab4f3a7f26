"""What engines and scorers are told on GPUs, as far as a machine without one shows it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="the training extra is not installed")

import stand_ins
from hypothesis import given
from hypothesis import strategies as st

from elastic_ray.serving import replica_process
from elastic_ray.serving.engines import vllm_runtime
from elastic_ray.serving.engines.local_weights import weight_bytes
from elastic_ray.serving.engines.transformers_engine import TransformersEngine
from elastic_ray.serving.engines.vllm_runtime import (
    check_batch_invariance,
    choose_vllm,
    vllm_environment,
    vllm_unavailable_reason,
)
from elastic_ray.serving.errors import EngineError
from elastic_ray.serving.gpu_sharing import (
    MIN_CACHE_BYTES,
    OVERHEAD_BYTES,
    cache_bytes,
    starting_alone,
)
from elastic_ray.serving.replica_options import placement_options
from elastic_ray.serving.types import EngineConfig

GIB = 2**30
CONFIG = EngineConfig("e", "vllm", "", None, "one", "bfloat16", 128)
SHARED = replace(CONFIG, gpus=0.5, gpu_memory_utilization=0.425)


@pytest.fixture
def no_vllm() -> None:
    if (reason := vllm_unavailable_reason()) is not None:
        pytest.skip(f"vLLM is not available: {reason}")


@given(st.integers(16, 192), st.lists(st.floats(0.05, 0.5), min_size=1, max_size=8))
def test_engines_that_share_a_gpu_fit_together(gib: int, shares: list[float]) -> None:
    shares = [share / max(1.0, sum(shares)) for share in shares]
    taken = 0
    for share in shares:
        weights = int(0.3 * share * gib * GIB)
        try:
            cache = cache_bytes(gib * GIB, share, weights, "e")
        except EngineError:
            assert share * gib * GIB - weights - OVERHEAD_BYTES < MIN_CACHE_BYTES + 1
            continue
        assert cache >= MIN_CACHE_BYTES
        taken += cache + weights + OVERHEAD_BYTES
    assert taken <= gib * GIB


def test_a_share_without_room_for_a_cache_is_refused() -> None:
    with pytest.raises(EngineError, match=r"e: its share of the GPU is 4.0 of 16.0 GiB"):
        cache_bytes(16 * GIB, 0.25, 3 * GIB, "e")


def test_engines_with_a_part_of_a_gpu_start_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setenv("ELASTIC_RAY_COPIES", str(tmp_path))

    def is_free() -> bool:
        with (tmp_path / "engine-start").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    with starting_alone(0.5):
        assert not is_free()
    assert is_free()
    for gpus in (0.0, 1.0, 2.0):
        with starting_alone(gpus):
            assert is_free()


def test_the_arguments_of_an_engine_follow_its_share(tmp_path: Path, no_vllm: None) -> None:
    from elastic_ray.serving.engines.vllm_engine import engine_arguments

    folder = stand_ins.language_model(tmp_path / "one", "llama", 0)
    weights = weight_bytes(str(folder), "bfloat16")
    assert 2 * weights == weight_bytes(str(folder), "float32")
    assert weights == pytest.approx(0.5 * (folder / "model.safetensors").stat().st_size, rel=0.05)

    def arguments(config: EngineConfig) -> Any:
        return engine_arguments(
            replace(config, checkpoint=str(folder)), 128, str(folder), lambda: 80 * GIB
        )

    shared = arguments(SHARED)
    expected = cache_bytes(80 * GIB, SHARED.gpu_memory_utilization, weights, "e")
    assert shared.kv_cache_memory_bytes == expected
    assert (shared.max_num_seqs, shared.max_num_batched_tokens) == (256, 8192)
    for gpus in (1.0, 2.0):
        alone = arguments(replace(CONFIG, gpus=gpus, tensor_parallel=int(gpus)))
        assert alone.kv_cache_memory_bytes is None
        assert alone.max_num_seqs is None, "vLLM's own, for its LLM class"
        assert alone.max_num_batched_tokens is None
    assert arguments(CONFIG).kv_cache_memory_bytes is None


def test_vllm_for_gpus_is_not_started_without_one(
    monkeypatch: pytest.MonkeyPatch, no_vllm: None
) -> None:
    assert choose_vllm("scorer s", "auto", 0.0) == (True, None), "it is built for CPUs here"
    monkeypatch.setattr(vllm_runtime, "_needs_gpu", lambda: "it is built for GPUs")
    used, notice = choose_vllm("scorer s", "auto", 0.0)
    assert not used and notice is not None and "it is built for GPUs" in notice
    with pytest.raises(EngineError, match="scorer s: vLLM is not available: it is built for GPUs"):
        choose_vllm("scorer s", "vllm", 0.0)
    assert choose_vllm("scorer s", "auto", 0.25) == (True, None)


def test_a_platform_that_is_not_the_cpu_needs_a_gpu(
    monkeypatch: pytest.MonkeyPatch, no_vllm: None
) -> None:
    import vllm.platforms

    assert vllm_runtime._needs_gpu() is None
    cuda = SimpleNamespace(is_cpu=lambda: False)
    monkeypatch.setattr(vllm.platforms, "_current_platform", cuda)
    assert vllm_runtime._needs_gpu() is not None


def test_deterministic_answers_need_a_gpu_that_can(
    monkeypatch: pytest.MonkeyPatch, no_vllm: None
) -> None:
    import vllm.platforms

    wanted = replace(CONFIG, deterministic=True)
    with pytest.raises(EngineError, match="on GPUs only; the engine has none"):
        check_batch_invariance(wanted)
    with pytest.raises(EngineError, match="but not transformers"):
        TransformersEngine(wanted)
    for old in (True, False):
        card = SimpleNamespace(
            has_device_capability=lambda _, old=old: not old, get_device_name=lambda: "T4"
        )
        monkeypatch.setattr(vllm.platforms, "_current_platform", card)
        if old:
            with pytest.raises(EngineError, match=r"compute capability 8.0 or higher; found T4"):
                check_batch_invariance(replace(wanted, gpus=1.0))
        else:
            check_batch_invariance(replace(wanted, gpus=1.0))
    check_batch_invariance(replace(CONFIG, gpus=1.0))


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_environment_has_batch_invariance_only_where_it_is_wanted(deterministic: bool) -> None:
    config = replace(CONFIG, gpus=1.0, deterministic=deterministic)
    set_to = vllm_environment(config, 1).get("VLLM_BATCH_INVARIANT")
    assert set_to == ("1" if deterministic else None)
    options = placement_options(config, 1, None)["ray_actor_options"]
    assert options["num_gpus"] == 1.0
    assert options["runtime_env"]["env_vars"].get("VLLM_BATCH_INVARIANT") == set_to


def test_a_replica_joins_its_cluster_and_caches_on_its_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(os, "environ", {**os.environ, "ELASTIC_RAY_COPIES": str(tmp_path)})
    for name in ("RAY_ADDRESS", "VLLM_CACHE_ROOT"):
        os.environ.pop(name, None)
    context = SimpleNamespace(gcs_address="10.0.0.1:6379")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    replica_process.prepare_process(1)
    assert "RAY_ADDRESS" not in os.environ
    assert os.environ["VLLM_CACHE_ROOT"] == str(tmp_path / "vllm")
    replica_process.prepare_process(2)
    assert os.environ["RAY_ADDRESS"] == "10.0.0.1:6379"
