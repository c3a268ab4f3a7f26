"""Inside vLLM's worker process: taking a checkpoint's weights, and making sure that it did.

vLLM's own reload only warns about weights that a checkpoint lacks, and its success was seen to be
no proof (vllm issues 48312, 32718). On CPUs it leaves the output layer of a model with tied
embeddings computing with the *old* weights: that layer holds a packed copy, and is not packed
again, as none of its own weights are in the checkpoint (vLLM 0.32, `layerwise.py`). So:

1. the files are hashed against the record before they are read;
2. tied output layers are packed again;
3. every parameter must have been loaded, and those that vLLM keeps as they are (norms, embeddings)
   must equal the file's;
4. every linear layer is given random vectors, and must answer what the file's weights say. What it
   computes is compared, not what it stores, so a stale packed copy cannot hide.

With tensor parallelism a worker holds parts of the matrices, and 4 is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class TakesWeights:
    """Mixed into vLLM's worker (`worker_extension_cls`); `self` is the worker."""

    def take_weights(self, folder: str, checksum: str | None) -> dict[str, int]:
        """Load the folder's safetensors in place of what is held; counts of what was checked.

        `equal` and `probed` are tensors of the file that were compared, `unchecked` the others.
        Raises `CheckpointError`, before anything is changed, for missing or damaged files, and
        `RuntimeError` where a parameter was not loaded or the engine computes with another.
        """
        from elastic_ray.checkpoints.files import CheckpointError, checkpoint_checksum, weight_files

        files = weight_files(folder)
        if checksum is not None and checkpoint_checksum(folder) != checksum:
            raise CheckpointError(f"{folder}: its weights are not those on record (checksum)")
        runner: Any = self.model_runner  # type: ignore[attr-defined]
        model = runner.get_model()
        loaded: set[str] = set()
        load = model.load_weights

        def recording(weights: Any) -> Any:
            names = load(weights)
            loaded.update(names or ())
            return names

        expected = {_plain_name(name) for name, _ in model.named_parameters()}
        model.load_weights = recording
        try:
            runner.reload_weights(weights_path=folder)
        finally:
            del model.load_weights
        missing = {name for name in expected if "lora_" not in name} - loaded
        if loaded and missing:
            raise RuntimeError(f"{folder}: parameters not loaded: {', '.join(sorted(missing)[:5])}")
        _pack_tied(model)
        _let_prompts_be_read(model)
        stored = _Stored(files)
        whole = self.parallel_config.tensor_parallel_size == 1  # type: ignore[attr-defined]
        equal = _compare(model, stored)
        probed = _probe(model, stored) if whole else set()
        return {
            "loaded": len(loaded),
            "equal": len(equal),
            "probed": len(probed - equal),
            "unchecked": len(stored.names - equal - probed),
        }


class _Stored:
    """The tensors of some safetensors files, read one at a time."""

    def __init__(self, files: list[Path]) -> None:
        from safetensors import safe_open

        self._of: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for path in files:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  (it is no mapping)
                    self._of[name] = path
                    self.shapes[name] = tuple(file.get_slice(name).get_shape())
        self.names = set(self._of)

    def read(self, name: str) -> Any:
        from safetensors import safe_open

        with safe_open(self._of[name], framework="pt") as file:
            return file.get_tensor(name)


def _plain_name(name: str) -> str:
    """A parameter's name without what LoRA puts into it."""
    return name.replace(".base_layer.", ".").removesuffix(".base_layer")


def _pack_tied(model: Any) -> None:
    """Pack the output layers again whose weights are another layer's (see the module's text)."""
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if type(method).__name__ == "UnquantizedEmbeddingMethod":
            method.process_weights_after_loading(module)


def _let_prompts_be_read(model: Any) -> None:
    """Make the probabilities of prompts readable where adapters are enabled.

    vLLM looks up the output layer's adapter by sequence, but asks that layer about every token of a
    prompt: the adapter is dropped (vllm issue 51594), and on CPUs the engine dies of it. `engine`
    reads no prompt under an adapter of the output layer, so here there is nothing to look up.
    """
    for module in model.modules():
        wrapper = getattr(module, "punica_wrapper", None)
        if type(module).__name__ != "LogitsProcessorWithLoRA" or hasattr(wrapper, "of_sequences"):
            continue
        wrapper.of_sequences = wrapper.add_lora_logits

        def add(y: Any, x: Any, *args: Any, _wrapper: Any = wrapper, **more: Any) -> Any:
            if len(x) != len(_wrapper.sampler_indices):
                return y
            return _wrapper.of_sequences(y, x, *args, **more)

        wrapper.add_lora_logits = add


def _compare(model: Any, stored: _Stored) -> set[str]:
    """Tensors that the model keeps as they are, found equal; `RuntimeError` at the first other."""
    import torch

    held = {_plain_name(name): parameter for name, parameter in model.named_parameters()}
    found = set()
    for name, shape in stored.shapes.items():
        mine = held.get(name)
        # The vocabulary is padded: more rows than the file has.
        if mine is None or mine.ndim == 0 or mine.shape[1:] != shape[1:] or len(mine) < shape[0]:
            continue
        parameter = mine.detach()[: shape[0]].cpu()
        if not torch.equal(parameter, stored.read(name).to(parameter.dtype)):
            raise RuntimeError(f"{name} differs from what the engine holds")
        found.add(name)
    return found


def _probe(model: Any, stored: _Stored) -> set[str]:
    """Tensors whose layer computes what they say, on random vectors; `RuntimeError` otherwise."""
    import torch

    random = torch.Generator().manual_seed(0)
    found = set()
    for layer, module, sources in _linears(model, stored):
        matrices = [stored.read(name) for name in sources]
        if any(matrix.ndim != 2 for matrix in matrices):
            continue
        dtype, device = _kind(model)
        for matrix in _orientations(matrices, module):
            inputs = torch.randn(4, matrix.shape[1], generator=random).to(dtype)
            expected = inputs.float() @ matrix.to(dtype).float().T
            got = module.quant_method.apply(module, inputs.to(device)).float().cpu()
            got = got[:, : expected.shape[1]]  # the vocabulary is padded
            tolerance = (1e-4 if dtype == torch.float32 else 3e-2) * float(expected.abs().max())
            if got.shape == expected.shape and torch.allclose(
                got, expected, rtol=0, atol=tolerance
            ):
                found.update(sources)
                break
        else:
            raise RuntimeError(f"{layer} does not compute with the checkpoint's weights")
    return found


def _orientations(matrices: list[Any], module: Any) -> list[Any]:
    """The matrices stacked as (outputs, inputs); GPT-2's files hold them the other way round.

    A square one may be either. Only what fits the layer's inputs is tried: the packed kernels of
    CPUs do not check, and write past their buffers.
    """
    import torch

    width = getattr(module, "input_size", None) or module.embedding_dim
    stacked = torch.cat(matrices)
    either = [stacked, stacked.T] if len(matrices) == 1 else [stacked]
    return [matrix for matrix in either if matrix.shape[1] == width]


def _kind(model: Any) -> tuple[Any, Any]:
    parameter = next(p for p in model.parameters() if p.is_floating_point())
    return parameter.dtype, parameter.device


def _linears(model: Any, stored: _Stored) -> Iterator[tuple[str, Any, list[str]]]:
    """(name, layer, the file's matrices that it holds, stacked) of every plain linear layer."""
    packed: Mapping[str, list[str]] = getattr(model, "packed_modules_mapping", {}) or {}
    weights = {
        id(parameter): _plain_name(name)
        for name, parameter in model.named_parameters(remove_duplicate=True)
    }
    for name, module in model.named_modules():
        method = type(getattr(module, "quant_method", None)).__name__
        if method not in ("UnquantizedLinearMethod", "UnquantizedEmbeddingMethod"):
            continue
        plain = _plain_name(name)
        above, _, last = plain.rpartition(".")
        sources = [f"{plain}.weight"]
        if last in packed:
            sources = [f"{above}.{part}.weight" for part in packed[last]]
        elif sources[0] not in stored.names:  # tied
            sources = [weights.get(id(getattr(module, "weight", None)), "")]
        # An input embedding only looks rows up; `_compare` has seen it.
        if all(s in stored.names for s in sources) and (
            method == "UnquantizedLinearMethod" or type(module).__name__ == "ParallelLMHead"
        ):
            yield name, module, sources
