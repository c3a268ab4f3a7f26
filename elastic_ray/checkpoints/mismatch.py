"""Words for weights that do not fit their architecture: what differs, and the likely remedy.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SHOWN = 3
"""Names that are told of each kind of difference."""
_WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "module.": "DataParallel, DDP or DeepSpeed",
    "_fsdp_wrapped_module.": "FSDP",
    "base_model.model.": "peft",
    "pretrained_model.": "trl's value head",
}
"""Prefix of every name in a file -> what wrapped the model when it was saved."""


@dataclass(frozen=True)
class Mismatch:
    """How a checkpoint's tensors differ from those of an architecture.

    `misshapen` is (name, shape in the file, shape that the configuration asks for).
    """

    missing: Sequence[str]
    unexpected: Sequence[str]
    misshapen: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)


def describe(found: Mismatch, architecture: str, stored: Iterable[str]) -> str:
    """Return one line: the first tensors that do not fit, and what to do.

    `stored` are the names of the tensors in the files.
    """
    shapes = [f"{n} {list(held)} (asked: {list(asked)})" for n, held, asked in found.misshapen]
    parts = [
        f"{kind} {_first(names)}"
        for kind, names in (
            ("missing:", sorted(found.missing)),
            ("unexpected:", sorted(found.unexpected)),
            ("of another shape:", sorted(shapes)),
        )
        if names
    ]
    return (
        f"its weights do not fit {architecture}: {'; '.join(parts)}; "
        f"{_remedy(found, architecture, list(stored))}"
    )


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _remedy(found: Mismatch, architecture: str, stored: Sequence[str]) -> str:
    """Return the likely remedy of a mismatch."""
    for prefix, wrapper in _WRAPPERS.items():
        if sum(prefix in f".{name}" for name in stored) * 2 > len(stored):
            return (
                f"the names contain {prefix}, which {wrapper} adds: save the model inside the "
                f"wrapper, or rename the tensors: {{name.replace({prefix!r}, ''): tensor ...}}"
            )
    if any("lora_" in name or ".base_layer." in name for name in stored):
        return "the file holds adapters that are not merged: call merge_and_unload, then save"
    heads = [name for name in found.missing if re.search(_HEADS, name)]
    if found.missing and len(heads) == len(found.missing):
        if "SequenceClassification" in architecture:
            return "the classification head is missing: give a model trained to classify or score"
        return (
            "the output layer is missing: save the model with its head (AutoModelForCausalLM), or "
            "set tie_word_embeddings in config.json if it shares the input embeddings"
        )
    if found.misshapen:
        return "config.json describes another size: use the one that was saved with these weights"
    if found.missing:
        return "the files are incomplete or of another model: save or download them again"
    if any(re.search(_HEADS, name) for name in found.unexpected):
        return "the file is of a model with another head: save it as a language model"
    return "config.json describes another model, of fewer layers or another type"


_HEADS = r"(^|\.)(lm_head|embed_out|score|classifier|v_head|cls|score_head|qa_outputs)\."
