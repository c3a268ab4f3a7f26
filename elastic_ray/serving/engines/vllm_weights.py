"""Verified loading of a checkpoint's weights, inside vLLM's worker process.

vLLM's own reload only warns if a checkpoint lacks weights, and a reload without errors does not
prove that the weights were replaced (vllm issues 48312, 32718). On CPUs, with tied embeddings, the
output layer continues to compute with the *old* weights. It uses a packed copy of them, and vLLM
does not repack it, because the checkpoint has no weights under the layer's own name (vLLM 0.32,
`layerwise.py`). Therefore:

1. the files are hashed, and the hash is compared with the recorded checksum, before they are read;
2. tied output layers are repacked;
3. every parameter must have been loaded, and those that vLLM stores unchanged (norms, embeddings)
   must equal the file's;
4. every linear layer is run on random vectors, and its output must match the file's weights. This
   tests what a layer computes, not what it stores, so it detects a stale packed copy.

With tensor parallelism a worker holds only parts of the matrices, and step 4 is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class VerifiedLoading:
    """Mixin for vLLM's worker (`worker_extension_cls`); `self` is the worker."""

    def load_verified_weights(self, folder: str, checksum: str | None) -> dict[str, int]:
        """Replace the model's weights by the safetensors of `folder`, and verify them.

        Returns four counts: the parameters that were `loaded`; the files' tensors that were found
        `equal` in step 3; those `probed` in step 4 only; and the `unchecked` rest. Raises
        `CheckpointError` for missing or damaged files, before anything is changed. Raises
        `RuntimeError` if a parameter was not loaded, or if the engine computes with other weights.
        """
        from elastic_ray.checkpoints.files import CheckpointError, checkpoint_checksum, weight_files

        files = weight_files(folder)
        if checksum is not None and checkpoint_checksum(folder) != checksum:
            raise CheckpointError(f"{folder}: its weights do not match the recorded checksum")
        runner: Any = self.model_runner  # type: ignore[attr-defined]  # an attribute of the worker
        model = runner.get_model()
        loaded: set[str] = set()
        load = model.load_weights

        def recording_load(weights: Any) -> Any:
            names = load(weights)
            loaded.update(names or ())
            return names

        expected = {_without_lora(name) for name, _ in model.named_parameters()}
        model.load_weights = recording_load
        try:
            runner.reload_weights(weights_path=folder)
        finally:
            del model.load_weights
        missing = {name for name in expected if "lora_" not in name} - loaded
        if loaded and missing:
            raise RuntimeError(f"{folder}: parameters not loaded: {', '.join(sorted(missing)[:5])}")
        _pack_tied_layers(model)
        _fix_prompt_logprobs(model)
        tensors = _FileTensors(files)
        parallel = self.parallel_config  # type: ignore[attr-defined]  # an attribute of the worker
        equal = _compare_parameters(model, tensors)
        probed = _probe_layers(model, tensors) if parallel.tensor_parallel_size == 1 else set()
        return {
            "loaded": len(loaded),
            "equal": len(equal),
            "probed": len(probed - equal),
            "unchecked": len(tensors.names - equal - probed),
        }


class _FileTensors:
    """The tensors of several safetensors files, read one at a time."""

    def __init__(self, files: list[Path]) -> None:
        from safetensors import safe_open

        self._file_of: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for path in files:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  (not a mapping)
                    self._file_of[name] = path
                    self.shapes[name] = tuple(file.get_slice(name).get_shape())
        self.names = set(self._file_of)

    def read(self, name: str) -> Any:
        from safetensors import safe_open

        with safe_open(self._file_of[name], framework="pt") as file:
            return file.get_tensor(name)


def _without_lora(name: str) -> str:
    """Return a parameter's name without the parts that LoRA wrappers add."""
    return name.replace(".base_layer.", ".").removesuffix(".base_layer")


def _pack_tied_layers(model: Any) -> None:
    """Repack output layers that share another layer's weights (see the module docstring)."""
    for module in model.modules():
        method: Any = getattr(module, "quant_method", None)
        if type(method).__name__ == "UnquantizedEmbeddingMethod":
            method.process_weights_after_loading(module)


def _fix_prompt_logprobs(model: Any) -> None:
    """Make prompt log-probabilities work while adapters are enabled.

    vLLM looks up the output layer's adapter once per sequence, but for prompt log-probabilities it
    computes that layer for every token. The adapter is then dropped (vllm issue 51594), and on CPUs
    the engine crashes. `VllmEngine` never scores a prompt with an adapter on the output layer, so
    the lookup is skipped here.
    """
    for module in model.modules():
        wrapper: Any = getattr(module, "punica_wrapper", None)
        if type(module).__name__ != "LogitsProcessorWithLoRA" or hasattr(wrapper, "by_sequence"):
            continue
        wrapper.by_sequence = wrapper.add_lora_logits

        def add(y: Any, x: Any, *args: Any, _wrapper: Any = wrapper, **kwargs: Any) -> Any:
            if len(x) != len(_wrapper.sampler_indices):
                return y
            return _wrapper.by_sequence(y, x, *args, **kwargs)

        wrapper.add_lora_logits = add


def _compare_parameters(model: Any, tensors: _FileTensors) -> set[str]:
    """Compare the parameters that vLLM stores unchanged with the files; return their names.

    Raises `RuntimeError` at the first difference.
    """
    import torch

    parameters = {_without_lora(name): parameter for name, parameter in model.named_parameters()}
    equal = set()
    for name, shape in tensors.shapes.items():
        held = parameters.get(name)
        # vLLM pads the vocabulary, so a parameter may have more rows than the file's tensor.
        if held is None or held.ndim == 0 or held.shape[1:] != shape[1:] or len(held) < shape[0]:
            continue
        rows = held.detach()[: shape[0]].cpu()
        if not torch.equal(rows, tensors.read(name).to(rows.dtype)):
            raise RuntimeError(f"{name} differs from what the engine holds")
        equal.add(name)
    return equal


def _probe_layers(model: Any, tensors: _FileTensors) -> set[str]:
    """Run the linear layers on random vectors; return the names of the tensors that they use.

    Raises `RuntimeError` at the first layer whose output does not match its tensors.
    """
    import torch

    random = torch.Generator().manual_seed(0)
    probed = set()
    for layer, module, sources in _linear_layers(model, tensors):
        matrices = [tensors.read(name) for name in sources]
        if any(matrix.ndim != 2 for matrix in matrices):
            continue
        dtype, device = _dtype_and_device(model)
        for matrix in _orientations(matrices, module):
            inputs = torch.randn(4, matrix.shape[1], generator=random).to(dtype)
            expected = inputs.float() @ matrix.to(dtype).float().T
            output = module.quant_method.apply(module, inputs.to(device)).float().cpu()
            output = output[:, : expected.shape[1]]  # the vocabulary is padded
            tolerance = (1e-4 if dtype == torch.float32 else 3e-2) * float(expected.abs().max())
            if output.shape == expected.shape and torch.allclose(
                output, expected, rtol=0, atol=tolerance
            ):
                probed.update(sources)
                break
        else:
            raise RuntimeError(f"{layer} does not compute with the checkpoint's weights")
    return probed


def _orientations(matrices: list[Any], module: Any) -> list[Any]:
    """Return the stacked matrix as (outputs, inputs), in each orientation that it may have.

    GPT-2's files hold transposed matrices, and the shape of a square one does not tell which it is.
    Only orientations that fit the layer's input size are returned: the packed CPU kernels do not
    check sizes and would write past their buffers.
    """
    import torch

    width = getattr(module, "input_size", None) or module.embedding_dim
    stacked = torch.cat(matrices)
    candidates = [stacked, stacked.T] if len(matrices) == 1 else [stacked]
    return [matrix for matrix in candidates if matrix.shape[1] == width]


def _dtype_and_device(model: Any) -> tuple[Any, Any]:
    parameter = next(p for p in model.parameters() if p.is_floating_point())
    return parameter.dtype, parameter.device


def _linear_layers(model: Any, tensors: _FileTensors) -> Iterator[tuple[str, Any, list[str]]]:
    """Yield (name, layer, names of the file's matrices stacked in it) for every linear layer.

    Quantised layers are skipped.
    """
    packed: Mapping[str, list[str]] = getattr(model, "packed_modules_mapping", {}) or {}
    name_of_weight = {
        id(parameter): _without_lora(name)
        for name, parameter in model.named_parameters(remove_duplicate=True)
    }
    for name, module in model.named_modules():
        method = type(getattr(module, "quant_method", None)).__name__
        if method not in ("UnquantizedLinearMethod", "UnquantizedEmbeddingMethod"):
            continue
        plain = _without_lora(name)
        parent, _, last = plain.rpartition(".")
        sources = [f"{plain}.weight"]
        if last in packed:
            sources = [f"{parent}.{part}.weight" for part in packed[last]]
        elif sources[0] not in tensors.names:  # tied
            sources = [name_of_weight.get(id(getattr(module, "weight", None)), "")]
        # An input embedding is only a table lookup; `_compare_parameters` covers it.
        if all(s in tensors.names for s in sources) and (
            method == "UnquantizedLinearMethod" or type(module).__name__ == "ParallelLMHead"
        ):
            yield name, module, sources
