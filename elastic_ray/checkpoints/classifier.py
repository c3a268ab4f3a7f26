"""What a sequence classifier's outputs mean, as its `config.json` says; pure, and never guessed.

`read_outputs` reads the names of the outputs and how they become probabilities. `scored_output`
finds the one that counts as aligned. Planning and scorers share both, so what is told before a
sweep is what is scored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SCORE_MODELS = ("LlamaForScore", "LlamaModelForScore")
"""Architectures of safe-rlhf's score models: the present name and that of its first releases."""

_SUFFIX = "ForSequenceClassification"
_UNNAMED = 2
"""Outputs of a classifier whose configuration does not name them (transformers' default)."""
_OPPOSITES = (("negative", "positive"), ("neg", "pos"))
"""Names of two classes, of which the second is aligned beyond doubt."""


class ClassifierError(ValueError):
    """A classifier that cannot be used as the sweep file says; the message is one line."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a classifier.

    `activation` makes probabilities of them: "softmax" over classes that exclude each other,
    "sigmoid" of each label by itself, or "none" where they are raw values.
    """

    labels: tuple[str, ...]
    activation: Literal["softmax", "sigmoid", "none"]

    def listed(self) -> str:
        """Return the labels with their numbers, as text."""
        return ", ".join(f"{i} {name}" for i, name in enumerate(self.labels))


def read_outputs(config: Mapping[str, Any], trusted: bool = False) -> Outputs:
    """Return the outputs that a model's configuration, as parsed JSON, describes.

    Raises `ClassifierError` if it is not that of a classifier of texts; `trusted` allows
    architectures that transformers does not have.
    """
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list):
        raise ClassifierError(f"config.json: architectures: found {architectures!r}; a list")
    if is_score_model(config):
        return Outputs(("score",), "none")
    if architectures and not trusted and not any(str(n).endswith(_SUFFIX) for n in architectures):
        raise ClassifierError(
            f"found the architecture {architectures[0]}; a scorer is a sequence classifier "
            f"(...{_SUFFIX}) or a score model ({SCORE_MODELS[0]})"
        )
    labels = _labels(config)
    problem = config.get("problem_type")
    if problem == "multi_label_classification":
        return Outputs(labels, "sigmoid")
    if problem == "regression" or len(labels) == 1:
        return Outputs(labels, "none")
    if problem not in (None, "single_label_classification"):
        raise ClassifierError(
            f"config.json: problem_type: found {problem!r}; one of regression, "
            "single_label_classification, multi_label_classification"
        )
    return Outputs(labels, "softmax")


def is_score_model(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration is that of one of safe-rlhf's score models."""
    return any(name in SCORE_MODELS for name in config.get("architectures") or ())


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the outputs, in their order."""
    named = config.get("id2label")
    if named is None:
        count = config.get("num_labels", _UNNAMED)
        if type(count) is not int or count < 1:
            raise ClassifierError(f"config.json: num_labels: found {count!r}; at least 1")
        return tuple(f"LABEL_{i}" for i in range(count))
    try:
        by_number = {int(key): " ".join(str(name).split()) for key, name in dict(named).items()}
    except (TypeError, ValueError):
        raise ClassifierError(
            "config.json: id2label is not a mapping of numbers to names"
        ) from None
    if not by_number or sorted(by_number) != list(range(len(by_number))):
        raise ClassifierError("config.json: id2label does not number its labels from 0 on")
    return tuple(by_number[i] for i in range(len(by_number)))


def scored_output(outputs: Outputs, label: int | str | None, mode: str) -> int:
    """Return the number of the output that `label`, its name or number, means.

    None is the default: the only output, or the "positive" one beside a "negative" one. Raises
    `ClassifierError` for an unknown label, for a default that is not certain, and for the `mode`
    "share" of outputs that do not exclude each other.
    """
    names = outputs.labels
    if mode == "share" and outputs.activation != "softmax" and len(names) > 1:
        raise ClassifierError(
            f"mode: found share, which needs classes that exclude each other; these "
            f"{'labels do not' if outputs.activation == 'sigmoid' else 'outputs are raw values'} "
            f"({outputs.listed()}): use mode: mean"
        )
    if label is None:
        lower = tuple(name.casefold() for name in names)
        if len(names) == 1 or lower in _OPPOSITES:
            return len(names) - 1
        raise ClassifierError(f"label: missing; which one is aligned? labels: {outputs.listed()}")
    if isinstance(label, int):
        if label < len(names):
            return label
        raise ClassifierError(f"label: found {label}; labels: {outputs.listed()}")
    same = [i for i, name in enumerate(names) if name == label] or [
        i for i, name in enumerate(names) if name.casefold() == label.casefold()
    ]
    if len(same) != 1:
        several = "; that name is not unique, give its number" if same else ""
        raise ClassifierError(f"label: found {label!r}; labels: {outputs.listed()}{several}")
    return same[0]


def describe(outputs: Outputs, index: int, mode: str, sign: int) -> str:
    """Return what is scored, with an example, as one line without the scorer's name."""
    names, chosen = outputs.labels, outputs.labels[index]
    minus = "-" if sign < 0 else ""
    if outputs.activation == "none" or (mode == "share" and len(names) == 1):
        whole = f"output {index} ({chosen}) of {outputs.listed()}"
        what = f"the only output ({chosen})" if len(names) == 1 else whole
        if mode == "share":
            side = "below" if minus else "above"
            return f"1 where {what} is {side} 0, e.g. 1.7 -> {0 if minus else 1}"
        return f"{minus}{what}, its raw value, e.g. 1.7 -> {minus}1.7"
    of = f"label {index} ({chosen}) of {outputs.listed()}"
    if mode == "share":
        other = names[1 if index == 0 else 0]
        return f"1 where {of} is the likeliest, e.g. {chosen} -> 1, {other} -> 0"
    return f"{minus}the probability of {of}, e.g. 0.7 {chosen} -> {minus}0.7"


def read_config(folder: str | Path) -> dict[str, Any]:
    """Return the `config.json` of a model's folder; `ClassifierError` if there is none to read."""
    path = Path(folder, "config.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        reason = "no such file" if isinstance(e, FileNotFoundError) else f"cannot be read: {e}"
        raise ClassifierError(f"{path}: {' '.join(reason.split())}") from None
    if not isinstance(found, dict):
        raise ClassifierError(f"{path}: holds no mapping")
    return found


def chat_template(folder: str | Path) -> bool:
    """Return whether the tokenizer in a model's folder has a chat template."""
    root = Path(folder)
    if (root / "chat_template.jinja").is_file() or (root / "chat_template.json").is_file():
        return True
    try:
        settings = json.loads((root / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and bool(settings.get("chat_template"))
