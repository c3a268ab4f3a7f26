"""Predicted peak memory against a simulation, for every model of the bundled sweep files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the training extra is not installed")
pytest.importorskip("transformers", reason="the training extra is not installed")

from simulated_memory import Simulated, simulate
from small_sweeps import Facts

from elastic_ray.placement.settings import LadderKind, ladder_kinds, settle_runtimes
from elastic_ray.placement.training_memory import training_memory
from elastic_ray.plan import plan_sweep
from elastic_ray.spec import Runtime, SpecError, load_spec

SWEEPS = Path(__file__).parents[2] / "sweeps"
TOLERANCE = 0.15
GPU_GIB = 80.0
LLAMA = {"vocab_size": 32_000, "tie_word_embeddings": False}
QWEN = {"vocab_size": 151_936, "tie_word_embeddings": False}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen1.5-0.5b": ("qwen2", {**QWEN, "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 2816,
        "tie_word_embeddings": True}),
    "qwen1.5-4b": ("qwen2", {**QWEN, "hidden_size": 2560, "num_hidden_layers": 40,
        "num_attention_heads": 20, "num_key_value_heads": 20, "intermediate_size": 6912}),
    "qwen1.5-7b": ("qwen2", {**QWEN, "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 11_008}),
    "tinyllama": ("llama", {**LLAMA, "hidden_size": 2048, "num_hidden_layers": 22,
        "num_attention_heads": 32, "num_key_value_heads": 4, "intermediate_size": 5632}),
    "gemma-2b": ("gemma", {"vocab_size": 256_000, "hidden_size": 2048, "num_hidden_layers": 18,
        "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
        "intermediate_size": 16_384}),
    "llama2-7b": ("llama", {**LLAMA, "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 11_008}),
    "llama2-13b": ("llama", {**LLAMA, "hidden_size": 5120, "num_hidden_layers": 40,
        "num_attention_heads": 40, "num_key_value_heads": 40, "intermediate_size": 13_824}),
    "llama3-8b": ("llama", {**LLAMA, "vocab_size": 128_256, "hidden_size": 4096,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 14_336}),
}  # fmt: skip
"""transformers' type and configuration of each hub model, from the hub."""


def kinds() -> dict[str, tuple[LadderKind, int]]:
    """The kinds of ladders of all sweep files, each once, as they train on GPUs of 80 GB."""
    found: dict[str, tuple[LadderKind, int]] = {}
    for file in sorted(SWEEPS.glob("*.yaml")):
        spec = load_spec(file)
        plan = plan_sweep(spec, {name: Facts(name) for name in spec.datasets()}, {})
        seen = {(None, None)}
        for kind, ladders in ladder_kinds(plan).items():
            kind, workers = settled(kind, ladders)
            recipe = kind.recipe
            signature = (kind.shape, (recipe.global_batch, recipe.max_length, recipe.precision))
            if signature not in seen:
                seen.add(signature)  # type: ignore[arg-type]
                found[f"{file.stem}-{kind.model}-{recipe.global_batch}"] = (kind, workers)
    return found


def settled(kind: LadderKind, ladders: Sequence[str]) -> tuple[LadderKind, int]:
    """The kind without any `auto`, and the fewest workers that hold it without offloading."""
    if kind.runtime.offload == "auto":
        kind = replace(kind, runtime=kind.runtime.model_copy(update={"offload": "none"}))
    for workers in range(1, kind.recipe.global_batch + 1):
        if kind.runtime.workers not in ("auto", workers):
            continue
        try:
            runtime = settle_runtimes({kind: ladders}, workers, GPU_GIB, workers)[ladders[0]]
        except SpecError:
            continue
        return replace(kind, runtime=runtime), workers
    raise AssertionError(f"no number of workers holds {kind.model}")


KINDS = kinds()


def simulated(kind: LadderKind, workers: int) -> Simulated:
    """The simulation of one worker's micro batch with the whole model on its GPU."""
    shape, recipe, runtime = kind.shape, kind.recipe, kind.runtime
    assert shape is not None and isinstance(runtime.micro_batch, int)
    configured = next((c for name, c in CONFIGS.items() if kind.model.startswith(name)), None)
    if configured is None:  # from init: its shape is known by itself
        configured = ("llama", {
            "vocab_size": shape.vocabulary, "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.heads, "intermediate_size": shape.intermediate,
            "tie_word_embeddings": shape.tied,
        })  # fmt: skip
    rows = min(runtime.micro_batch, -(-recipe.global_batch // workers))
    return simulate(*configured, rows, recipe.max_length, recipe.precision, runtime.checkpointing)


def test_every_model_of_the_sweep_files_is_known() -> None:
    models = {kind.model for kind, _ in KINDS.values()}
    assert len(models) >= 10
    assert all(kind.shape is not None for kind, _ in KINDS.values())


@pytest.mark.parametrize("name", KINDS)
def test_prediction_and_simulation_agree(name: str) -> None:
    """On one worker; then partitioned by division, as the sweep file says."""
    kind, workers = KINDS[name]
    assert kind.shape is not None
    real = simulated(kind, workers)
    alone = kind.runtime.model_copy(update={"workers": 1, "zero_stage": 0})
    # The same micro batch on one worker.
    rows = min(int(kind.runtime.micro_batch), -(-kind.recipe.global_batch // workers))
    alone = alone.model_copy(update={"micro_batch": rows})
    predicted = training_memory(kind.shape, kind.recipe, alone, 1)
    assert predicted.peak_bytes == pytest.approx(real.peak, rel=TOLERANCE)
    for part in ("weights", "gradients", "optimizer", "activations"):
        assert getattr(predicted, part) == pytest.approx(getattr(real, part), rel=TOLERANCE), part

    parted = training_memory(kind.shape, kind.recipe, kind.runtime, workers)
    stage = kind.runtime.stage_of(kind.recipe)
    share = [workers if stage >= least else 1 for least in (3, 2, 1)]
    held = real.weights / share[0] + real.gradients / share[1] + real.optimizer / share[2]
    assert parted.activations == predicted.activations
    gathered = parted.weights - predicted.weights / share[0]
    buckets = parted.gradients - predicted.gradients / share[1]
    assert gathered >= 0 and buckets >= 0
    assert parted.peak_bytes == pytest.approx(
        held + gathered + buckets + real.activations, rel=TOLERANCE
    )


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("model", ["tinyllama", "gemma-2b", "qwen1.5-0.5b"])
def test_checkpointing_is_predicted_too(model: str, precision: str) -> None:
    kind = next(k for k, _ in KINDS.values() if k.model.startswith(model))
    assert kind.shape is not None
    recipe = kind.recipe.model_copy(update={"precision": precision})
    runtime = Runtime(micro_batch=4, checkpointing=True)
    real = simulate(*CONFIGS[model], 4, recipe.max_length, precision, checkpointing=True)
    predicted = training_memory(kind.shape, recipe, runtime, 1)
    assert predicted.activations == pytest.approx(real.activations, rel=TOLERANCE)
    plain = simulate(*CONFIGS[model], 4, recipe.max_length, precision)
    assert plain.activations > 1.5 * real.activations
