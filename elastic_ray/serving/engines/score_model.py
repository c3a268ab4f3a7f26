"""safe-rlhf's score models (`LlamaForScore`: its reward and cost models), as others know them.

Such a model is a Llama with a linear head, `score_head`, whose value at a text's last token is the
score. Neither transformers nor vLLM ships it. vLLM serves a Llama sequence classifier of one label,
which is the same arithmetic under other names, so `as_classifier` writes the checkpoint down as
one; `ScoreModel` is the same in plain torch. Where the model normalises its scores, the head takes
that over.

**The text it expects** is the one that it learnt from: safe-rlhf's dialogue (`tasks.dialogue`),
`BEGINNING OF CONVERSATION: USER: question ASSISTANT:answer`, and the end token, which is the token
that is read. `ended` adds it.
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

from ...checkpoints.files import weight_files
from ..errors import EngineError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

ARCHITECTURES = ("LlamaForScore", "LlamaModelForScore")
"""The present name and that of safe-rlhf's first releases."""
EPSILON = 1e-8
INDEX = "model.safetensors.index.json"


def is_score_model(config: PretrainedConfig) -> bool:
    """Whether a checkpoint's configuration says that it is one."""
    return any(name in ARCHITECTURES for name in config.architectures or ())


def ended(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], longest: int
) -> list[list[int]]:
    """Each text's tokens and the end token, `longest` together at most: what is cut is the text."""
    end = tokenizer.eos_token_id
    if end is None:
        raise EngineError("a score model's tokenizer has no end token, and it reads at that token")
    found = tokenizer(list(texts), truncation=True, max_length=longest - 1).input_ids
    return [ids if ids and ids[-1] == end else [*ids, end] for ids in found]


def as_classifier(folder: str | Path, into: Path) -> None:
    """Write the score model in `folder` as a Llama classifier of one label into `into`.

    Files without the head's tensors are linked, not copied.
    """
    source = Path(folder).resolve()
    weight, bias = read_head(source)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "score"}}
    config |= {"label2id": {"score": 0}}
    places: dict[str, str] = {}
    for path in weight_files(source):
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
        kept = [name for name in names if _is_of_the_model(name)]
        places |= dict.fromkeys(kept, path.name)
        if len(kept) == len(names):
            (into / path.name).symlink_to(path)
        else:
            save_file(dict(_tensors(path, kept)), into / path.name, {"format": "pt"})
    save_file({"score.weight": weight, "score.bias": bias}, into / "head.safetensors")
    places |= dict.fromkeys(("score.weight", "score.bias"), "head.safetensors")
    (into / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}), "utf-8")
    (into / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for path in source.iterdir():
        if path.suffix in (".json", ".model", ".txt") and not (into / path.name).exists():
            (into / path.name).symlink_to(path)


def read_head(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The head's weight, shape (1, hidden), and bias, (1,), in float32, normalisation included."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    held = {
        name: tensor.float()
        for path in weight_files(folder)
        for name, tensor in _tensors(path, None)
        if not _is_of_the_model(name)
    }
    if (weight := held.get("score_head.weight")) is None:
        raise EngineError(f"{folder}: no tensor score_head.weight, which a score model has")
    if weight.shape[0] != 1:
        raise EngineError(f"{folder}: score_head gives {weight.shape[0]} scores; one is expected")
    bias = held.get("score_head.bias", torch.zeros(1))
    if config.get("do_normalize"):
        mean = held.get("normalizer.mean", torch.tensor(config.get("mean") or [0.0]))
        deviation = held.get("normalizer.var", torch.tensor(config.get("var") or [1.0])).sqrt()
        kind = config.get("score_type", "reward")
        if kind == "reward":
            bias = bias - mean
        if kind in ("reward", "cost"):
            weight, bias = weight / (deviation + EPSILON), bias / (deviation + EPSILON)
    return weight.contiguous(), bias


def _is_of_the_model(name: str) -> bool:
    return not name.startswith(("score_head.", "normalizer."))


def _tensors(path: Path, names: Sequence[str] | None) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of a file, one at a time: those of `names`, or all that are not of the model."""
    with safe_open(path, framework="pt") as file:
        for name in file.keys() if names is None else names:
            if names is not None or not _is_of_the_model(name):
                yield name, file.get_tensor(name)


class ScoreModel(torch.nn.Module):
    """A score model in plain torch over transformers' Llama, in float32."""

    def __init__(self, folder: str | Path, trust_remote_code: bool) -> None:
        from transformers import AutoModel

        super().__init__()
        self.body = AutoModel.from_pretrained(
            folder, use_safetensors=True, dtype="float32", trust_remote_code=trust_remote_code
        )
        self.weight, self.bias = (torch.nn.Parameter(p) for p in read_head(Path(folder)))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        """`logits` of shape (texts, 1), from tokens and mask of shape (texts, longest).

        The last token of a text is the last that its mask counts, wherever the padding is.
        """
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        last = (attention_mask * places).argmax(dim=1)
        read = hidden[torch.arange(len(hidden), device=last.device), last]
        return SimpleNamespace(logits=torch.nn.functional.linear(read, self.weight, self.bias))
