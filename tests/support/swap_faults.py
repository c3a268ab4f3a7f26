"""Swaps weights of a small model in vLLM, well and with faults; prints what came of each as JSON.

    python tests/support/swap_faults.py FOLDER FAMILY RANKS

The engine starts on state 0 and swaps to state 1. A fault is an error of vLLM's reload (a tensor
that it does not load, loads twice, or exchanges with another), or of the files. Runs in a process
of its own, as vLLM reads its environment once.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

SHAPES: dict[str, dict[str, Any]] = {
    "qwen2": {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 192},
    "llama": {"num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 64},
    "gemma": {"num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 192}
    | {"head_dim": 32},
    "gpt2": {"n_head": 4, "n_inner": 192, "n_embd": 64, "n_layer": 2, "n_positions": 128},
}
Weights = Iterator[tuple[str, torch.Tensor]]


def make_state(folder: Path, family: str, seed: int) -> Path:
    """Write a small model with biases that are not zero; 330 is no multiple of vLLM's padding."""
    from transformers import AutoConfig, AutoModelForCausalLM

    common = {"vocab_size": 330, "hidden_size": 64, "num_hidden_layers": 2}
    common |= {"max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 1}
    tied = {"tie_word_embeddings": family in ("gemma", "gpt2")}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **{**common, **SHAPES[family], **tied})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def without(part: str) -> Callable[[Weights], Weights]:
    """Return a fault that leaves out the first tensor whose name contains `part`."""

    def fault(weights: Weights) -> Weights:
        left = False
        for name, tensor in weights:
            if part in name and not left:
                left = True
                continue
            yield name, tensor

    return fault


def exchanged(one: str, other: str) -> Callable[[Weights], Weights]:
    """Return a fault that exchanges two tensors of one shape."""

    def fault(weights: Weights) -> Weights:
        found = dict(weights)
        assert found[one].shape == found[other].shape
        found[one], found[other] = found[other], found[one]
        yield from found.items()

    return fault


def one_bit(part: str) -> Callable[[Weights], Weights]:
    """Return a fault that flips the lowest bit of one value on the way into the engine."""

    def fault(weights: Weights) -> Weights:
        for name, tensor in weights:
            if part in name:
                tensor = tensor.clone()
                tensor.view(torch.int16).flatten()[7] ^= 1
            yield name, tensor

    return fault


FAULTS: dict[str, Callable[[Weights], Weights] | None] = {
    "stale": None,  # nothing is reloaded
    "half-loaded matrix": without("layers.1.mlp.down_proj"),
    "half-loaded part of a fused matrix": without("layers.0.self_attn.k_proj.weight"),
    "half-loaded bias": without("layers.1.self_attn.v_proj.bias"),
    "half-loaded norm": without("layers.1.input_layernorm"),
    "half-loaded embedding": without("embed_tokens"),
    "permuted norms": exchanged(
        "model.layers.0.input_layernorm.weight", "model.layers.1.input_layernorm.weight"
    ),
    "permuted gate and up": exchanged(
        "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight"
    ),
    "permuted k and v": exchanged(
        "model.layers.1.self_attn.k_proj.weight", "model.layers.1.self_attn.v_proj.weight"
    ),
    "one bit": one_bit("layers.1.self_attn.o_proj.weight"),
    "one bit of a fused matrix": one_bit("layers.1.mlp.up_proj.weight"),
    "one bit of the output layer": one_bit("lm_head"),
}


def swap(worker: Any, folder: str, stamp: str, fault: str | None) -> dict[str, Any]:
    """In vLLM's worker: swap, with one of `FAULTS`; return the counts or the error."""
    runner = worker.model_runner
    if fault is not None:
        reload, change = runner.reload_weights, FAULTS[fault]

        def faulty(weights_iterator: Weights) -> None:
            if change is not None:
                reload(weights_iterator=change(weights_iterator))

        runner.reload_weights = faulty
    try:
        return dict(worker.load_verified_weights(folder, stamp))
    except Exception as e:
        return {"error": str(e)}
    finally:
        runner.__dict__.pop("reload_weights", None)


def packed_as_before(worker: Any, same_function: bool) -> None:
    """In vLLM's worker: let vLLM drop matrices and go on to compute with the old packed ones.

    `same_function`: each layer's function remains the same object, too.
    """
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    def keep(self: Any, layer: Any) -> None:
        old = layer.cpu_linear
        layer.cpu_linear = old if same_function else lambda *inputs: old(*inputs)
        layer.weight = torch.nn.Parameter(torch.empty(0, dtype=torch.bfloat16), False)

    UnquantizedLinearMethod.process_weights_after_loading = keep


def flip_bit(file: Path) -> None:
    """Flip one bit of the last tensor and set the file's times back."""
    times = file.stat()
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    with file.open("r+b") as opened:
        opened.write(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def run(root: Path, family: str, ranks: int) -> dict[str, Any]:
    """Return the outcome of each swap, by name: a worker's counts or error, for each rank."""
    from safetensors.torch import load_file, save_file
    from vllm import LLM

    from elastic_ray.checkpoints.files import weights_stamp

    first, second = (make_state(root / f"{i}", family, i) for i in range(2))
    llm = LLM(
        str(first),
        dtype="bfloat16",
        enforce_eager=True,
        max_model_len=64,
        skip_tokenizer_init=True,
        tensor_parallel_size=ranks,
        distributed_executor_backend="mp" if ranks > 1 else "uni",
        worker_extension_cls="elastic_ray.serving.engines.vllm_weights.VerifiedLoading",
        enable_chunked_prefill=False,
        max_num_batched_tokens=2048,
    )
    outcome: dict[str, Any] = {}

    def record(name: str, folder: Path, fault: str | None = None, stamp: str | None = None) -> None:
        given = stamp or weights_stamp(folder)
        outcome[name] = llm.collective_rpc(swap, args=(str(folder), given, fault))

    record("good", second)
    if family == "qwen2":
        for name in FAULTS:
            record(f"back before {name}", first)
            record(name, second, name)
        changed = Path(shutil.copytree(second, root / "changed"))
        stamp = weights_stamp(changed)
        flip_bit(changed / "model.safetensors")
        record("changed after hashing", changed, stamp=stamp)
        tensors = load_file(second / "model.safetensors")
        fewer = {n: t for n, t in tensors.items() if "layers.1.self_attn.q_proj.bias" not in n}
        more = tensors | {"model.layers.2.mlp.up_proj.weight": torch.zeros(192, 64)}
        for name, changes in (("fewer tensors", fewer), ("more tensors", more)):
            folder = root / name.replace(" ", "-")
            folder.mkdir()
            save_file(changes, folder / "model.safetensors", {"format": "pt"})
            record(name, folder)
        record("good after all faults", second)
        if ranks == 1:
            for name, same in (("not packed anew", True), ("packed from old weights", False)):
                llm.collective_rpc(packed_as_before, args=(same,))
                record(name, first)
    return outcome


def main() -> None:
    root, family, ranks = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    os.environ |= {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    (root / "outcome.json").write_text(json.dumps(run(root, family, ranks)))


if __name__ == "__main__":
    main()
