"""Compares the weights that vLLM holds with a checkpoint's files, bit for bit, during a reload.

The reload and the comparison read the same files one after the other, so the second finds them in
the page cache. Values are compared in the type in which the engine holds them, at the speed of
memory, on the engine's device.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .vllm_layout import ModelSlices, Slice, own_parameters, without_lora

PROBES = 4
"""Random vectors that a packed layer is run on. Kernels for single vectors are other ones."""
PROBED_ROWS = 256
"""Outputs of a packed layer that are compared, spread evenly over all of them. One call packs the
whole matrix, so that more would find nothing else, and take as long as the comparison itself."""
CHUNK_BYTES = 256 * 2**20
"""Bytes of a tensor that are copied to a GPU at a time for the comparison."""


class FileTensors:
    """The tensors of several safetensors files, mapped into memory."""

    def __init__(self, files: Sequence[Path]) -> None:
        from safetensors import safe_open

        self._file_of: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for path in files:
            file: Any = safe_open(path, framework="pt")
            for name in file.keys():  # noqa: SIM118  (not a mapping)
                if name in self._file_of:
                    raise RuntimeError(f"{path}: {name} is in another file too")
                self._file_of[name] = file
                self.shapes[name] = tuple(file.get_slice(name).get_shape())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, tensor) of all tensors, file by file."""
        for name in self._file_of:
            yield name, self.read(name)

    def read(self, name: str) -> Any:
        """Return a tensor whose pages are read when they are used."""
        return self._file_of[name].get_tensor(name)


class WeightProof:
    """The comparison of one reload: `watching` goes around it, `finish` comes after it."""

    def __init__(self, model: Any, slices: ModelSlices, tensors: FileTensors) -> None:
        self._model, self._slices, self._tensors = model, slices, tensors
        self._by_parameter: dict[str, list[Slice]] = defaultdict(list)
        for each in slices.slices:
            self._by_parameter[each.parameter].append(each)
        self._compared: set[str] = set()
        self._bytes = 0
        self._probes: dict[str, tuple[Any, Any, Any]] = {}
        """Layer -> the module, random inputs, and some outputs by the verified matrix."""
        self._places = _storage_places(model)
        self._packed_before = dict(_packed_layers(model))
        self._difference: RuntimeError | None = None
        """The first difference found during the reload."""

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Compare the matrices that vLLM packs during the block, just before each is packed."""
        methods: list[Any] = []
        names = {id(module): without_lora(name) for name, module in self._model.named_modules()}

        def watch(method: Any) -> None:
            pack = method.process_weights_after_loading

            def compare_and_pack(layer: Any) -> None:
                weight = f"{names[id(layer)]}.weight"
                if weight in self._by_parameter and self._difference is None:
                    try:
                        self._compare(weight, layer.weight.data)
                        self._prepare_probe(names[id(layer)], layer)
                    except RuntimeError as e:  # raised by `finish`: vLLM cannot stop midway
                        self._difference = e
                pack(layer)

            method.process_weights_after_loading = compare_and_pack
            methods.append(method)

        if next(self._model.parameters()).device.type == "cpu":
            for module in self._model.modules():
                method = getattr(module, "quant_method", None)
                if type(method).__name__ == "UnquantizedLinearMethod" and method not in methods:
                    watch(method)
        try:
            yield
        finally:
            for method in methods:
                del method.process_weights_after_loading

    def finish(self) -> dict[str, int]:
        """Compare what was not compared yet, run the probes, and return counts.

        Raises `RuntimeError` at the first difference, or if something could not be compared.
        """
        if self._difference is not None:
            raise self._difference
        for name, module in own_parameters(self._model):
            own = name.rpartition(".")[2]
            if name not in self._compared:
                self._compare(name, getattr(module, own).data)
        for copy, original in self._slices.tied.items():
            if not _same_bits(self._tensors.read(copy), self._tensors.read(original)):
                raise RuntimeError(
                    f"{copy} differs from {original}, which the engine uses for both "
                    "(tie_word_embeddings)"
                )
        self._check_places()
        self._prepare_output_layers()
        for layer, (module, inputs, expected) in self._probes.items():
            if module.cpu_linear is self._packed_before.get(layer):
                raise RuntimeError(f"{layer} was not packed anew")
            _check_probe(layer, module, inputs, expected)
        compared = {each.tensor for name in self._compared for each in self._by_parameter[name]}
        left = self._by_parameter.keys() - self._compared
        missed = self._tensors.shapes.keys() - compared - set(self._slices.constants)
        missed -= self._slices.tied.keys()
        if left or missed or not compared:
            raise RuntimeError(
                f"not compared: {', '.join(sorted(left | missed)[:5]) or 'anything'}"
            )
        return {
            "tensors": len(compared),
            "bytes": self._bytes,
            "parameters": len(self._compared),
            "probed": len(self._probes),
            "constants": len(self._slices.constants),
        }

    def _compare(self, parameter: str, held: Any) -> None:
        """Compare one parameter, or its values before packing, with all of its tensors."""
        rows = 0
        for each in self._by_parameter[parameter]:
            tensor = self._tensors.read(each.tensor)
            if each.transposed:
                tensor = tensor.t()
            stored = each.stored.of(tensor) if each.stored else tensor
            end = each.held.start + each.held.size if each.held else 0
            if held.ndim == 0 or len(held) < end or held.numel() == 0:
                raise RuntimeError(f"{each.tensor}: the engine did not load {parameter}")
            part = each.held.of(held) if each.held else held
            if part.shape != stored.shape:
                raise RuntimeError(
                    f"{each.tensor}: {parameter} has shape {list(part.shape)} in the engine; the "
                    f"checkpoint's has {list(stored.shape)}"
                )
            if not _equal(part, stored, self._dtype):
                raise RuntimeError(f"{each.tensor} differs from what the engine holds")
            self._bytes += stored.nbytes
            rows += len(part)
        padding = held[rows:]
        if len(padding) and (
            not self._by_parameter[parameter][0].padded or bool(padding.count_nonzero())
        ):
            raise RuntimeError(f"{parameter}: rows {rows} to {len(held) - 1} are not in the file")
        self._compared.add(parameter)

    @property
    def _dtype(self) -> Any:
        return next(p.dtype for p in self._model.parameters() if p.is_floating_point())

    def _prepare_probe(self, layer: str, module: Any) -> None:
        """Remember what the layer has to compute; its matrix has just been verified."""
        import torch

        weight = module.weight.data
        random = torch.Generator().manual_seed(0)
        inputs = torch.randn(PROBES, weight.shape[1], generator=random).to(weight.dtype)
        rows = probed_rows(len(weight))
        self._probes[layer] = module, inputs, torch.nn.functional.linear(inputs, weight[rows])

    def _prepare_output_layers(self) -> None:
        """Probe output layers too: on CPUs they compute with a packed copy of their weights."""
        for name, module in self._model.named_modules():
            if type(module).__name__ == "ParallelLMHead" and hasattr(module, "cpu_linear"):
                self._prepare_probe(without_lora(name), module)

    def _check_places(self) -> None:
        """Raise if a parameter has moved: captured CUDA graphs would read its old memory."""
        if next(self._model.parameters()).device.type == "cpu":
            return
        moved = [n for n, place in _storage_places(self._model).items() if self._places[n] != place]
        if moved:
            raise RuntimeError(f"the reload moved {', '.join(sorted(moved)[:5])} in memory")


def _storage_places(model: Any) -> dict[str, int]:
    return {name: parameter.data_ptr() for name, parameter in model.named_parameters()}


def _packed_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, function) of each layer that computes with a packed copy of its weights.

    vLLM makes a new function whenever it packs a layer.
    """
    import torch

    for name, module in model.named_modules():
        function = getattr(module, "cpu_linear", None)
        if function is not None and function is not torch.nn.functional.linear:
            yield without_lora(name), function


def _equal(held: Any, stored: Any, dtype: Any) -> bool:
    """Return whether the engine holds a stored tensor's values, rounded to its type.

    vLLM keeps some small parameters wider than the model (biases of packed layers); those may also
    be rounded to the model's type `dtype` first.
    """
    for start in range(0, len(stored), max(1, CHUNK_BYTES * len(stored) // max(1, stored.nbytes))):
        rows = max(1, CHUNK_BYTES * len(stored) // max(1, stored.nbytes))
        part, other = held[start : start + rows], stored[start : start + rows].to(held.device)
        if _same_bits(part, other.to(part.dtype)):
            continue
        if part.dtype == dtype or not _same_bits(part, other.to(dtype).to(part.dtype)):
            return False
    return True


def _same_bits(one: Any, other: Any) -> bool:
    """Return whether two tensors of one type have the same shape and bits.

    On CPUs this is `memcmp`: PyTorch compares 16-bit floats one at a time, up to 40 times slower.
    """
    import torch

    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.device.type != "cpu":
        bits = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
        return bool(torch.equal(one.view(bits), other.view(bits)))
    one, other = one.contiguous(), other.contiguous()
    same: int = _memcmp(one.data_ptr(), other.data_ptr(), one.nbytes)
    return same == 0


_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_memcmp.restype = ctypes.c_int


def probed_rows(outputs: int) -> Any:
    """Return the indices of the outputs that are compared, of a layer with so many outputs."""
    import torch

    return torch.linspace(0, outputs - 1, min(outputs, PROBED_ROWS), dtype=torch.float64).long()


def _check_probe(layer: str, module: Any, inputs: Any, expected: Any) -> None:
    """Raise `RuntimeError` if a layer's output does not match its verified matrix."""
    import torch

    output = module.quant_method.apply(module, inputs)
    output = output[:, probed_rows(output.shape[1])].float()
    wanted = expected.float()
    tolerance = (1e-4 if inputs.dtype == torch.float32 else 3e-2) * float(wanted.abs().max())
    if output.shape != wanted.shape or not torch.allclose(output, wanted, rtol=0, atol=tolerance):
        raise RuntimeError(f"{layer} does not compute with the checkpoint's weights")
