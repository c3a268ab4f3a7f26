"""Strict loading: a model's tensors are those of its architecture, no more and no fewer.

transformers fills tensors that a checkpoint lacks with random values, and ignores those that it
does not know; both with a warning at most. Here both are errors, for every load: trainer, engines,
scorers, start states. What an architecture itself declares as tied, or as ignorable, is accepted.
`check_files` is the same check on the headers of the files, against the architecture without
memory (torch's device "meta"); it reads no weights. torch and transformers are imported only when
they are needed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .files import CheckpointError
from .mismatch import Mismatch, describe
from .model_files import (
    StoredTensor,
    is_constant,
    model_files,
    read_config,
    read_headers,
    same_content,
)

Head = Literal["language", "classifier", "body"]
"""What a model ends with: an output layer over tokens, a layer over classes, or nothing."""
_AUTO = {
    "language": "AutoModelForCausalLM",
    "classifier": "AutoModelForSequenceClassification",
    "body": "AutoModel",
}
_FLOATS = ("F64", "F32", "F16", "BF16")
"""Types of tensors, in safetensors' words, that are the numbers they stand for."""


@dataclass(frozen=True)
class Architecture:
    """What a folder's configuration describes; `model` holds no memory (device "meta")."""

    config: Any
    model: Any

    @property
    def name(self) -> str:
        """Class of transformers, e.g. "LlamaForCausalLM"."""
        return type(self.model).__name__

    @property
    def parameters(self) -> int:
        """Number of parameters, tied ones counted once."""
        return sum(p.numel() for p in self.model.parameters())


def architecture_of(folder: str | Path, head: Head, trust_remote_code: bool) -> Architecture:
    """Return the architecture of a folder's `config.json`.

    Raises `CheckpointError` if it is unknown, quantized, or not of this kind.
    """
    import torch
    import transformers

    stored = read_config(folder)
    if (quantization := stored.get("quantization_config")) is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise CheckpointError(
            f"{folder}: its weights are quantized ({method or 'quantization_config'}); give the "
            "model in bfloat16 or float32"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=trust_remote_code
        )
        auto = getattr(transformers, _AUTO[head])
        with torch.device("meta"):
            model = auto.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as e:
        raise CheckpointError(f"{folder}: {_unknown(stored, head, e)}") from None
    if head == "language" and _reads_both_ways(config):
        raise CheckpointError(
            f"{folder}: {stored.get('model_type')} is an encoder: it reads texts in both "
            "directions and cannot continue them; give a causal language model"
        )
    return Architecture(config, model)


def _unknown(config: Mapping[str, Any], head: Head, error: Exception) -> str:
    """Return why an architecture cannot be made, in a line."""
    import transformers

    kind = config.get("model_type")
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return "it needs Python code of its own; set trust_remote_code: true if you trust it"
    if kind is None:
        return "config.json names no model_type"
    if kind not in transformers.CONFIG_MAPPING:
        return f"model_type {kind!r} is not known to transformers {transformers.__version__}"
    if "Unrecognized configuration class" in text:
        wanted = "language model" if head == "language" else "sequence classifier"
        return f"model_type {kind!r} is no {wanted} ({_AUTO[head]} does not have it)"
    return f"config.json cannot be used: {type(error).__name__}: {text[:300]}"


def _reads_both_ways(config: Any) -> bool:
    """Return whether a model is an encoder (BERT's kind), which is no causal language model."""
    import transformers

    if getattr(config, "is_encoder_decoder", False):
        return True
    masked = type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING
    return masked and not getattr(config, "is_decoder", False)


def check_files(
    folder: str | Path,
    head: Head,
    trust_remote_code: bool = False,
    left_out: tuple[str, ...] = (),
) -> Architecture:
    """Return the architecture of a folder after its files' headers were compared with it.

    Tensors whose names begin with one of `left_out` are not the model's. Raises `CheckpointError`
    with the first tensors that do not fit and the likely remedy.
    """
    import torch

    headers = _own_tensors(folder, left_out)
    found = architecture_of(folder, head, trust_remote_code)
    _drop_copies(found, headers, folder)
    tensors = {
        name: torch.empty(each.shape, dtype=torch.float32, device="meta")
        for name, each in headers.items()
    }
    _load(found, tensors, folder, "float32", {"device_map": "meta"})
    return found


def load_model(
    folder: str | Path,
    head: Head,
    dtype: str,
    trust_remote_code: bool = False,
    left_out: tuple[str, ...] = (),
) -> Any:
    """Load a folder's model on the CPU, in evaluation mode; see `check_files`.

    `dtype` is "float32" or "bfloat16". Raises `CheckpointError` if it does not fit or cannot be
    read.
    """
    from safetensors import safe_open

    headers = _own_tensors(folder, left_out)
    found = architecture_of(folder, head, trust_remote_code)
    _drop_copies(found, headers, folder)
    with contextlib.ExitStack() as files:
        opened = {
            path: files.enter_context(safe_open(path, framework="pt"))
            for path in model_files(folder)
        }
        tensors = {name: opened[each.file].get_slice(name) for name, each in headers.items()}
        model = _load(found, tensors, folder, dtype, {})
    _refuse_not_finite(model.named_parameters(), folder)
    model.config.name_or_path = str(folder)
    if head == "language":
        model.generation_config = generation_config(folder, model)
    return model


def _own_tensors(folder: str | Path, left_out: tuple[str, ...]) -> dict[str, StoredTensor]:
    """Return the model's tensors by name; `CheckpointError` if weights are stored as integers or
    in 8 bits, which mean nothing without the scale that quantization gave them."""
    tensors = {
        name: each
        for name, each in read_headers(folder).items()
        if not (left_out and name.startswith(left_out))
    }
    for name, each in tensors.items():
        is_weight = name.endswith((".weight", ".bias")) and not is_constant(name, each.shape)
        if is_weight and each.dtype not in _FLOATS:
            raise CheckpointError(
                f"{folder}: {name} is stored as {each.dtype}, and nothing says by which scale; "
                "give the model in bfloat16 or float32"
            )
    return tensors


def check_finite(folder: str | Path) -> None:
    """Raise `CheckpointError` for weights of a folder that are NaN or infinite.

    Reads the files whole, one tensor at a time.
    """
    from safetensors import safe_open

    for path in model_files(folder):
        with safe_open(path, framework="pt") as file:
            _refuse_not_finite(((name, file.get_tensor(name)) for name in file.keys()), folder)  # noqa: SIM118  # no mapping


def _refuse_not_finite(weights: Iterable[tuple[str, Any]], folder: str | Path) -> None:
    """Raise `CheckpointError` for NaN or infinite weights: all answers would be noise."""
    for name, weight in weights:
        if is_constant(name, tuple(weight.shape)) or not weight.is_floating_point():
            continue
        if not weight.isfinite().all():
            raise CheckpointError(
                f"{folder}: {name} holds values that are NaN or infinite; the file is damaged, or "
                "the training that wrote it diverged"
            )


def _load(
    found: Architecture, tensors: dict[str, Any], folder: str | Path, dtype: str, options: Any
) -> Any:
    """Return transformers' model with these tensors; `CheckpointError` unless they fit exactly.

    The tensors are given one by one, so that what else lies in the folder (an adapter, another
    format) does not matter.
    """
    names = list(tensors)
    if getattr(found.config.get_text_config(), "attn_logit_softcapping", None):
        # Gemma 2: transformers' fused attention leaves the cap out, without a word (5.19).
        options = {**options, "attn_implementation": "eager"}
    try:
        with quiet():
            model, read = type(found.model).from_pretrained(
                None,
                config=found.config,
                state_dict=tensors,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below, with the others
                **options,
            )
    except Exception as e:
        text = " ".join(str(e).split())[:300]
        raise CheckpointError(f"{folder}: cannot be loaded: {type(e).__name__}: {text}") from e
    different = Mismatch(
        sorted(read["missing_keys"]),
        sorted(read["unexpected_keys"]),
        [(name, tuple(held), tuple(asked)) for name, held, asked in read["mismatched_keys"]],
    )
    if different:
        raise CheckpointError(f"{folder}: {describe(different, found.name, names)}")
    return model


def _drop_copies(found: Architecture, headers: dict[str, StoredTensor], folder: str | Path) -> None:
    """Remove stored copies of tied tensors, which the architecture holds once.

    Raises `CheckpointError` if a copy differs: transformers would then use both, vLLM one of them.
    """
    tied = getattr(found.model, "all_tied_weights_keys", None) or {}
    prefix = f"{found.model.base_model_prefix}."
    for copy, original in tied.items():
        one = _stored_name(copy, headers, prefix)
        other = _stored_name(original, headers, prefix)
        if one is None or other is None or one == other:
            continue
        if not same_content(headers[one], headers[other]):
            raise CheckpointError(
                f"{folder}: {one} differs from {other}, but the configuration ties them "
                "(tie_word_embeddings); set it to false, or save the model again"
            )
        del headers[one]


def _stored_name(name: str, headers: Mapping[str, StoredTensor], prefix: str) -> str | None:
    """Return a tensor's name in the files, which may leave out the model's prefix."""
    return next((n for n in (name, name.removeprefix(prefix)) if n in headers), None)


def generation_config(folder: str | Path, model: Any) -> Any:
    """Return a folder's generation settings in a form that can be saved again.

    Settings of sampling without `do_sample`, as published models have them, are taken as meant for
    sampling: transformers reads such a file, but refuses to write it. Sweeps use their own
    settings; of these only the end tokens count. Raises `CheckpointError` for others that cannot
    be saved.
    """
    from transformers import GenerationConfig

    path = Path(folder) / "generation_config.json"
    if not path.is_file():
        return model.generation_config
    try:
        with quiet():
            config = GenerationConfig.from_pretrained(folder)
            try:
                config.validate(strict=True)
            except ValueError:
                config.do_sample = True
                config.validate(strict=True)
    except Exception as e:
        reason = " ".join(str(e).split())[:300]
        raise CheckpointError(
            f"{path}: cannot be saved with a trained state: {reason}; correct it, or remove it"
        ) from None
    return config


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' reports and progress bars: what they would tell is an error here."""
    from transformers.utils import logging as messages

    level, bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity(logging.CRITICAL)
    messages.disable_progress_bar()  # type: ignore[no-untyped-call]  # no annotations
    try:
        yield
    finally:
        messages.set_verbosity(level)
        if bars:
            messages.enable_progress_bar()  # type: ignore[no-untyped-call]  # as above
