"""Where each tensor of a checkpoint is in vLLM's model: the slices that must be equal.

vLLM fuses matrices (q, k and v; gate and up), pads vocabularies, transposes GPT-2's matrices, sorts
the rows that Bloom and Falcon store head by head, and gives a rank of a tensor-parallel engine
parts of them. The offsets here are computed from the sizes of vLLM's layers and the names of
`packed_modules_mapping`, not by vLLM's loaders, so that an error of a loader is found. Every tensor
of the file and every parameter of the model is accounted for; what is not is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

CONSTANTS = re.compile(
    r"(rotary_emb\.inv_freq|\.(attn|attention)\.(bias|masked_bias)|position_ids)$"
)
"""Tensors of old checkpoints that are no weights: rotary frequencies, causal masks, positions."""
HEAD_BY_HEAD = ("bloom", "falcon")
"""Types of models that store the q, k and v of one group of heads after those of the other."""
OTHER_NAMES = {"lm_head": "embed_out"}
"""Layer in vLLM -> its name in files that lack the former (GPT-NeoX)."""
TRANSPOSED = {"gpt2": re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")}
"""Type of a model -> its matrices that are stored as (inputs, outputs)."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Span:
    """A part of a tensor along one dimension."""

    dim: int
    start: int
    size: int

    def of(self, tensor: Any) -> Any:
        """Return the part as a view."""
        return tensor.narrow(self.dim, self.start, self.size)


@dataclass(frozen=True)
class Slice:
    """A part of a parameter, and the part of a file's tensor that it must equal.

    None stands for the whole. A parameter's rows after the part are padding, and zero, if `padded`.
    """

    tensor: str
    parameter: str
    held: Span | None
    stored: Span | None
    transposed: bool = False
    padded: bool = False

    def shape(self, stored: Shape) -> Shape:
        """Return the shape of the file's tensor as vLLM has it."""
        return stored[::-1] if self.transposed else stored


@dataclass(frozen=True)
class ModelSlices:
    """All slices of a model; `tied` are the tensors that repeat another (name -> the other)."""

    slices: tuple[Slice, ...]
    tied: Mapping[str, str]
    constants: tuple[str, ...]


class UnknownLayout(RuntimeError):
    """vLLM holds weights in a form that cannot be compared with the checkpoint."""


def model_slices(model: Any, shapes: Mapping[str, Shape], model_type: str) -> ModelSlices:
    """Return the slices of vLLM's model for a checkpoint with tensors of these shapes.

    Raises `UnknownLayout` if a tensor or a parameter is left over, or sizes disagree.
    """
    names = _Names(shapes, getattr(model, "packed_modules_mapping", None) or {})
    transposed = TRANSPOSED.get(model_type)
    slices: list[Slice] = []
    for parameter, module in own_parameters(model):
        found = list(_slices_of(parameter, module, names, model_type))
        if not found:
            raise UnknownLayout(f"the checkpoint has no tensor for the parameter {parameter}")
        for each in found:
            turned = transposed is not None and bool(transposed.search(each.tensor))
            slices.append(replace(each, transposed=turned))
    used = {each.tensor for each in slices}
    constants = tuple(name for name in shapes if name not in used and CONSTANTS.search(name))
    tied = {
        name: original
        for name, original in _tied_parameters(model, names).items()
        if name not in used
    }
    left = sorted(shapes.keys() - used - set(constants) - tied.keys())
    if left:
        raise UnknownLayout(f"the engine holds nothing of the tensors {', '.join(left[:5])}")
    _check_sizes(slices, shapes)
    return ModelSlices(tuple(slices), tied, constants)


def own_parameters(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, module) of each parameter, without those of adapters; a tied one once."""
    seen: set[int] = set()
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if "lora_" in own or "lora_" in name or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            yield f"{without_lora(name)}.{own}".removeprefix("."), module


def without_lora(name: str) -> str:
    """Return a parameter's or module's name without the parts that LoRA wrappers add."""
    return name.replace(".base_layer.", ".").removesuffix(".base_layer")


class _Names:
    """The names of a file's tensors, looked up by vLLM's names."""

    def __init__(self, shapes: Mapping[str, Shape], packed: Mapping[str, Sequence[str]]) -> None:
        self.shapes, self._packed = shapes, packed
        self._first_parts = {name.partition(".")[0] for name in shapes}

    def find(self, name: str) -> str | None:
        """Return the tensor of that name.

        Files may leave out leading parts ("transformer."), or have another first one ("gpt_neox."
        where vLLM's backend on transformers has "model.").
        """
        if name in self.shapes:
            return name
        first, _, shorter = name.partition(".")
        other = f"{OTHER_NAMES.get(first, '')}.{shorter}"
        if other in self.shapes:
            return other
        if first == "model":
            found = [f"{each}.{shorter}" for each in self._first_parts]
            found = [each for each in found if each in self.shapes]
            if len(found) == 1:
                return found[0]
        while "." in shorter:
            if shorter in self.shapes:
                return shorter
            shorter = shorter.partition(".")[2]
        return None

    def parts(self, parameter: str) -> list[str]:
        """Return the tensors that are fused in a parameter; empty if the file has it fused too."""
        layer, _, own = parameter.rpartition(".")
        parent, _, last = layer.rpartition(".")
        if last not in self._packed or list(self._packed[last]) == [last]:
            return []
        found = [self.find(f"{parent}.{part}.{own}") for part in self._packed[last]]
        return [name for name in found if name is not None]


def _slices_of(parameter: str, module: Any, names: _Names, model_type: str) -> Iterator[Slice]:
    from vllm.model_executor.layers import linear
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    whole = names.find(parameter)
    matrix = parameter.endswith(".weight")
    if isinstance(module, linear.QKVParallelLinear) and whole and model_type in HEAD_BY_HEAD:
        yield from _heads(parameter, module, whole)
    elif isinstance(module, linear.QKVParallelLinear | linear.MergedColumnParallelLinear):
        yield from _fused(parameter, module, names, whole)
    elif whole is None:
        return
    elif isinstance(module, VocabParallelEmbedding):
        rows = module.shard_indices
        start, size = rows.org_vocab_start_index, rows.num_org_elements
        yield Slice(whole, parameter, Span(0, 0, size), Span(0, start, size), padded=True)
    elif isinstance(module, linear.RowParallelLinear) and matrix:
        size = module.input_size_per_partition
        yield Slice(whole, parameter, None, Span(1, module.tp_rank * size, size))
    elif isinstance(module, linear.ColumnParallelLinear):
        size = module.output_size_per_partition
        yield Slice(whole, parameter, None, Span(0, module.tp_rank * size, size))
    else:
        yield Slice(whole, parameter, None, None)


def _fused(parameter: str, module: Any, names: _Names, whole: str | None) -> Iterator[Slice]:
    """Yield the slices of a layer that holds several matrices one below the other."""
    parts = names.parts(parameter)
    sizes, ranks = _part_sizes(module)
    if not parts and whole is None:
        return
    if parts and len(parts) != len(sizes):
        raise UnknownLayout(f"{parameter} holds {len(sizes)} matrices; the file has {parts}")
    held = stored = 0
    for i, (size, rank) in enumerate(zip(sizes, ranks, strict=True)):
        tensor = parts[i] if parts else whole
        assert tensor is not None
        yield Slice(tensor, parameter, Span(0, held, size), Span(0, stored + rank * size, size))
        held += size
        if not parts:
            stored += _full_sizes(module)[i]


def _heads(parameter: str, module: Any, tensor: str) -> Iterator[Slice]:
    """Yield a slice for each head of q, k and v, in vLLM's order.

    The file has them in groups: the query heads that share a key head, that key head, its values.
    """
    size = module.head_size
    queries = module.total_num_heads // module.total_num_kv_heads
    group = queries + 2
    first = module.tp_rank * module.num_heads
    places = [
        head // queries * group + head % queries for head in range(first, first + module.num_heads)
    ]
    first = module.tp_rank // module.num_kv_head_replicas * module.num_kv_heads
    for offset in (queries, queries + 1):
        places += [kv * group + offset for kv in range(first, first + module.num_kv_heads)]
    for i, place in enumerate(places):
        yield Slice(tensor, parameter, Span(0, i * size, size), Span(0, place * size, size))


def _part_sizes(module: Any) -> tuple[list[int], list[int]]:
    """Return this rank's rows of each fused matrix, and which of its parts they are.

    With fewer key-value heads than ranks, several ranks hold the same head.
    """
    from vllm.model_executor.layers.linear import QKVParallelLinear

    if isinstance(module, QKVParallelLinear):
        key = module.num_kv_heads * module.head_size
        sizes = [
            module.num_heads * module.head_size,
            key,
            module.num_kv_heads * module.v_head_size,
        ]
        shared = module.tp_rank // module.num_kv_head_replicas
        return sizes, [module.tp_rank, shared, shared]
    sizes = [size // module.tp_size for size in module.output_sizes]
    return sizes, [module.tp_rank] * len(sizes)


def _full_sizes(module: Any) -> list[int]:
    """Return the rows of each fused matrix over all ranks, as a file that has them fused does."""
    from vllm.model_executor.layers.linear import QKVParallelLinear

    if isinstance(module, QKVParallelLinear):
        keys = module.total_num_kv_heads
        return [
            module.total_num_heads * module.head_size,
            keys * module.head_size,
            keys * module.v_head_size,
        ]
    return list(module.output_sizes)


def _tied_parameters(model: Any, names: _Names) -> dict[str, str]:
    """Map the tensor of each layer that shares another's parameter to the tensor of the other."""
    first: dict[int, str] = {}
    tied: dict[str, str] = {}
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            full = f"{without_lora(name)}.{own}"
            original = first.setdefault(id(parameter), full)
            tensor, other = names.find(full), names.find(original)
            if original != full and tensor and other and tensor != other:
                tied[tensor] = other
    return tied


def _check_sizes(slices: Sequence[Slice], shapes: Mapping[str, Shape]) -> None:
    """Raise `UnknownLayout` if a slice ends outside its tensor."""
    for each in slices:
        shape = each.shape(shapes[each.tensor])
        if each.stored is None:
            continue
        end = each.stored.start + each.stored.size
        if each.stored.dim >= len(shape) or end > shape[each.stored.dim]:
            raise UnknownLayout(
                f"{each.tensor} has shape {list(shape)}; the engine holds {each.parameter} as if "
                f"its dimension {each.stored.dim} had at least {end}"
            )


def covered(found: ModelSlices, shapes: Mapping[str, Shape]) -> dict[str, list[list[int]]]:
    """Return for each tensor [[its length], [start, end], ...]: what of it the slices compare.

    The length is that of the dimension along which the tensor is cut.
    """
    ranges: dict[str, list[list[int]]] = {}
    for each in found.slices:
        shape = each.shape(shapes[each.tensor]) or (1,)
        whole = Span(0, 0, shape[0])
        span = each.stored or whole
        ranges.setdefault(each.tensor, [[shape[span.dim]]]).append(
            [span.start, span.start + span.size]
        )
    return ranges


def not_covered(ranks: Sequence[Mapping[str, Sequence[Sequence[int]]]]) -> list[str]:
    """Return the tensors of which no rank compared some part; `ranks` are values of `covered`."""
    missing = []
    for name in sorted({name for rank in ranks for name in rank}):
        length = max(rank[name][0][0] for rank in ranks if name in rank)
        end = 0
        for start, stop in sorted(tuple(r) for rank in ranks for r in rank.get(name, ())[1:]):
            if start > end:
                break
            end = max(end, stop)
        if end != length:
            missing.append(name)
    return missing
