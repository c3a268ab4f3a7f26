"""safe-rlhf's score models (`LlamaForScore`: its reward and cost models), for both scorer backends.

Such a model is a Llama with a linear head, `score_head`, whose value at a text's last token is the
score. Neither transformers nor vLLM ships it. vLLM serves a Llama sequence classifier with one
label, which is the same arithmetic under other names, so `write_as_classifier` converts the
checkpoint to one. `ScoreModel` is the same in plain torch. Where the model normalises its scores,
the normalisation becomes part of the head.

A text has to be in the format that the model was trained on: safe-rlhf's dialogue
(`tasks.dialogue`), `BEGINNING OF CONVERSATION: USER: question ASSISTANT:answer`. The score is read
at the end token, which `tokenize_with_end` adds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ...checkpoints.architecture import load_model
from ...checkpoints.classifier import SCORE_MODELS
from ...checkpoints.model_files import INDEX, WEIGHTS, model_files
from ..errors import EngineError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

EPSILON = 1e-8
"""Added to the standard deviation by safe-rlhf's normaliser."""
HEAD_TENSORS = ("score_head.", "normalizer.")
"""Beginnings of the names of the tensors that are not the body's."""


def is_score_model(config: PretrainedConfig) -> bool:
    """Return whether a checkpoint's configuration is that of a score model."""
    return any(name in SCORE_MODELS for name in config.architectures or ())


def tokenize_with_end(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], context: int
) -> list[list[int]]:
    """Return each text's tokens and the end token, together at most `context`; the text is cut.

    Raises `EngineError` if the tokenizer has no end token.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise EngineError(
            "the score model's tokenizer has no end token, at which the score is read"
        )
    batch = tokenizer(list(texts), truncation=True, max_length=context - 1).input_ids
    return [ids if ids and ids[-1] == end else [*ids, end] for ids in batch]


def write_as_classifier(folder: str | Path, into: Path) -> None:
    """Write the score model in `folder` as a Llama classifier with one label into `into`.

    Files without tensors of the head are linked, not copied.
    """
    source = Path(folder).resolve()
    weight, bias = read_head(source)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "score"}}
    config |= {"label2id": {"score": 0}}
    file_of: dict[str, str] = {}
    for path in model_files(source):
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
        body = [name for name in names if not _is_head(name)]
        # Beside an index, a file of that name would be taken for the whole model.
        name = path.name if path.name != WEIGHTS else "body.safetensors"
        file_of |= dict.fromkeys(body, name)
        if len(body) == len(names):
            (into / name).symlink_to(path)
        else:
            save_file(dict(_tensors(path, body)), into / name, {"format": "pt"})
    save_file({"score.weight": weight, "score.bias": bias}, into / "head.safetensors")
    file_of |= dict.fromkeys(("score.weight", "score.bias"), "head.safetensors")
    (into / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": file_of}), "utf-8")
    (into / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for path in source.iterdir():
        if path.suffix in (".json", ".model", ".txt") and not (into / path.name).exists():
            (into / path.name).symlink_to(path)


def read_head(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the head's weight, shape (1, hidden), and bias, shape (1,), in float32.

    They include the normalisation of scores. Raises `EngineError` if the folder is not that of a
    score model with one score.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    head = {name: tensor.float() for path in model_files(folder) for name, tensor in _tensors(path)}
    if (weight := head.get("score_head.weight")) is None:
        raise EngineError(f"{folder}: no tensor score_head.weight, which a score model has")
    if weight.shape[0] != 1:
        raise EngineError(f"{folder}: score_head gives {weight.shape[0]} scores; one is expected")
    bias = head.get("score_head.bias", torch.zeros(1))
    if config.get("do_normalize"):
        mean = head.get("normalizer.mean", torch.tensor(config.get("mean") or [0.0]))
        deviation = head.get("normalizer.var", torch.tensor(config.get("var") or [1.0])).sqrt()
        score_type = config.get("score_type", "reward")
        if score_type == "reward":
            bias = bias - mean
        if score_type in ("reward", "cost"):
            weight, bias = weight / (deviation + EPSILON), bias / (deviation + EPSILON)
    return weight.contiguous(), bias


def _is_head(name: str) -> bool:
    return name.startswith(HEAD_TENSORS)


def _tensors(path: Path, names: Sequence[str] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield tensors of a file, one at a time: those of `names`, by default those of the head."""
    with safe_open(path, framework="pt") as file:
        for name in file.keys() if names is None else names:
            if names is not None or _is_head(name):
                yield name, file.get_tensor(name)


class ScoreModel(torch.nn.Module):
    """A score model in plain torch on transformers' Llama, in float32."""

    def __init__(self, folder: str | Path, trust_remote_code: bool) -> None:
        super().__init__()
        self.body = load_model(folder, "body", "float32", trust_remote_code, HEAD_TENSORS)
        self.weight, self.bias = (torch.nn.Parameter(p) for p in read_head(Path(folder)))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        """Return `logits` of shape (texts, 1) from tokens and mask of shape (texts, longest).

        The score is read at the last token that the mask counts, on whichever side the padding is.
        """
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        last = (attention_mask * positions).argmax(dim=1)
        at_last = hidden[torch.arange(len(hidden), device=last.device), last]
        return SimpleNamespace(logits=torch.nn.functional.linear(at_last, self.weight, self.bias))
