"""Writes stand-ins for the hub's models and data, so that sweep files run without hub or GPU.

    python tests/support/stand_ins.py FOLDER [--sweep FILE]

The stand-ins are the models of the architectures that the sweep files name, the two scorers, and
the data sets. Each is a folder of a few hundred kB. Configs, tokenizer classes, tensor names and
columns are those on the hub; all weights are random. `place_of` names a model's folder, and
`overrides` returns the settings with which a sweep file uses the stand-ins.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import stand_in_data
import torch
import yaml
from safetensors.torch import save_file

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

FAMILIES = ("qwen2", "llama", "gemma")
SHAPE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
INNER, POSITIONS, VOCABULARY = 128, 512, 600
SPREAD = 0.1
"""Standard deviation of the weights; large enough that the outputs of models differ."""
DATA = {
    "imdb": lambda: stand_in_data.imdb(800, 400),
    "saferlhf": lambda: stand_in_data.saferlhf(400, 200),
    "beavertails": lambda: stand_in_data.beavertails(200, 100),
    "alpaca": lambda: stand_in_data.alpaca(800),
    "truthfulqa": lambda: stand_in_data.truthfulqa(200),
}
FAMILY_OF = {"Qwen": "qwen2", "google": "gemma", "meta-llama": "llama", "TinyLlama": "llama"}
"""Owner in a hub id -> family."""


def place_of(family: str, i: int) -> str:
    """Return the folder name of a model; it contains the size, like the names on the hub."""
    return f"{family}-{i}-0.1M"


def texts() -> list[str]:
    """Return texts to train tokenizers on: reviews and safety dialogues."""

    from elastic_ray.tasks.dialogue import prompt_of

    reviews = [row["text"] for row in stand_in_data.imdb(300, 0)["train"]]
    rows = stand_in_data.saferlhf(200, 0)["train"]
    return reviews + [f"{prompt_of(row['prompt'])}{row['response_0']}" for row in rows]


def tokenizer(family: str) -> PreTrainedTokenizerBase:
    """Train a tokenizer of the class that transformers uses for the family."""
    import transformers

    empty = {
        "qwen2": transformers.Qwen2Tokenizer,
        "llama": transformers.LlamaTokenizer,
        "gemma": transformers.GemmaTokenizer,
        "roberta": transformers.RobertaTokenizer,
    }[family]()
    return empty.train_new_from_iterator(texts(), VOCABULARY, show_progress=False)


def _config(family: str, known: PreTrainedTokenizerBase, **more: Any) -> PretrainedConfig:
    from transformers import AutoConfig

    tokens = {
        "vocab_size": len(known),
        "bos_token_id": known.bos_token_id,
        "eos_token_id": known.eos_token_id,
        "pad_token_id": known.pad_token_id,
    }
    inner = {"intermediate_size": INNER, "max_position_embeddings": POSITIONS}
    return AutoConfig.for_model(
        family, **SHAPE, **inner, initializer_range=SPREAD, **tokens, **more
    )


def language_model(folder: Path, family: str, seed: int) -> Path:
    """Write a causal language model of a family; seeds differ in the weights only."""
    from transformers import AutoModelForCausalLM

    known = tokenizer(family)
    heads = {"num_key_value_heads": 1 if family == "gemma" else 2}
    if family == "gemma":
        heads["head_dim"] = 32
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(_config(family, known, **heads))
    return _save(folder, model, known)


def sentiment(folder: Path) -> Path:
    """Write a RoBERTa with two classes, like `siebert/sentiment-roberta-large-english`."""
    from transformers import RobertaForSequenceClassification

    known = tokenizer("roberta")
    labels = {
        "id2label": {0: "NEGATIVE", 1: "POSITIVE"},
        "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
    }
    torch.manual_seed(100)
    config = _config("roberta", known, type_vocab_size=1, **labels)
    config.max_position_embeddings = POSITIONS + 2
    model = RobertaForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.out_proj.weight *= 20  # so that it predicts both classes
    return _save(folder, model, known)


def classifier(
    folder: Path, family: str, labels: Sequence[str], padding: bool = True, **more: Any
) -> Path:
    """Write a sequence classifier with these labels and random weights.

    Decoders get their end token as padding token, and a tokenizer that ends every text with it;
    without `padding` they get neither. `more` are fields of the configuration.
    """
    from tokenizers import processors
    from transformers import AutoModelForSequenceClassification

    decoder = family in FAMILIES or family == "gpt2"
    known = tokenizer("llama" if decoder else "roberta")
    named = dict(enumerate(labels))
    more |= {"id2label": named, "label2id": {name: i for i, name in named.items()}}
    config = _config(family, known, **more)
    config.pad_token_id = known.pad_token_id if not decoder else None
    if decoder and padding:
        config.pad_token_id = known.eos_token_id
        known.pad_token = known.eos_token
        known.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {known.eos_token}",
            special_tokens=[(known.eos_token, known.eos_token_id)],
        )
    torch.manual_seed(300)
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(("classifier.", "score.")) and "dense" not in name:
                weight *= 20  # so that the outputs differ
    return _save(folder, model, known)


def cost(folder: Path, **normalising: Any) -> Path:
    """Write a cost model like safe-rlhf's: a Llama without an output layer, with a score head.

    `normalising` are fields of its config, such as `do_normalize`.
    """
    from transformers import AutoModel

    known = tokenizer("llama")
    known.add_special_tokens({"pad_token": "<pad>"})
    config = _config("llama", known, num_key_value_heads=2)
    torch.manual_seed(200)
    model = AutoModel.from_config(config)
    head = {
        "score_head.weight": torch.randn(1, SHAPE["hidden_size"]),
        "score_head.bias": torch.randn(1),
        "normalizer.mean": torch.tensor(normalising.get("mean", [0.0])),
        "normalizer.var": torch.tensor(normalising.get("var", [1.0])),
        "normalizer.count": torch.zeros(1, dtype=torch.long),
    }
    known.save_pretrained(folder)
    more = {"architectures": ["LlamaForScore"], "score_type": "cost", "score_dim": 1}
    more |= {"score_bias": True, "do_normalize": False, "normalizer_type": None}
    for name, value in (more | normalising).items():
        setattr(config, name, value)
    config.save_pretrained(folder)
    body = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    save_file(body | head, folder / "model.safetensors", {"format": "pt"})
    return folder


def _save(folder: Path, model: Any, known: PreTrainedTokenizerBase) -> Path:
    model.save_pretrained(folder)
    known.save_pretrained(folder)
    return folder


def make(root: Path, families: Sequence[str] = FAMILIES, states: int = 3) -> Path:
    """Write all stand-ins below `root`, with `states` models per family; keep existing folders."""
    wanted = {place_of(family, i): (family, i) for family in families for i in range(states)}
    for name, (family, seed) in wanted.items():
        if not (root / name).exists():
            language_model(root / name, family, seed)
    for name, write in (("sentiment", sentiment), ("cost", cost)):
        if not (root / name).exists():
            write(root / name)
    for name, rows in DATA.items():
        if not (root / "data" / name).exists():
            stand_in_data.write(root / "data" / name, rows())
    return root


def overrides(sweep: Path, root: Path) -> list[str]:
    """Return the `--set` values with which a sweep file uses the stand-ins; sizes are unchanged."""
    data = yaml.safe_load(sweep.read_text(encoding="utf-8"))
    sets, seen = [], dict.fromkeys(FAMILIES, 0)
    for i, model in enumerate(data["models"]):
        family = FAMILY_OF[model["hub"].partition("/")[0]]
        place = f"{{name: {model['name']}, path: {root / place_of(family, seen[family])}}}"
        sets.append(f"models.{i}={place}")
        seen[family] += 1
    several = isinstance(data["task"], list)
    for task in data["task"] if several else [data["task"]]:
        place = f"task.{task['name']}" if several else "task"
        sets.append(f"{place}.data.path={root / 'data' / task['name']}")
        if "scorer" not in task:
            continue
        backend = {k: v for k, v in task["scorer"].items() if k not in ("hub", "revision")}
        backend["path"] = str(root / backend["name"])
        sets.append(f"{place}.scorer={yaml.safe_dump(backend, default_flow_style=True)}")
    return sets


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write stand-ins for the hub's models and data.")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--sweep", type=Path, help="print the --set arguments that point this file at them"
    )
    args = parser.parse_args(arguments)
    root = make(args.folder.resolve())
    if args.sweep:
        for each in overrides(args.sweep, root):
            print("--set", f"'{each.strip()}'")
    return 0


if __name__ == "__main__":
    sys.exit(main())
