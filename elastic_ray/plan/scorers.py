"""What the scorers of a spec score, told and checked before a sweep starts.

Only a scorer's `config.json` and tokenizer settings are read: of a local folder always, of a hub
model once they are in this machine's cache. A scorer that the task trains has known classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..checkpoints.classifier import (
    ClassifierError,
    Outputs,
    chat_template,
    describe,
    is_score_model,
    read_config,
    read_outputs,
    scored_output,
)
from ..checkpoints.hub import cached_config
from ..spec import Scorer, Spec

TRAINED = Outputs(("negative", "positive"), "softmax")
"""Outputs of the classifiers that are trained on tasks."""


def scorer_problems(spec: Spec) -> Iterator[str]:
    """Yield a line for each scorer that cannot score as the spec says, with its field."""
    for i, task in enumerate(spec.task):
        if task.scorer is None:
            continue
        try:
            scored(task.scorer)
        except ClassifierError as e:
            problem = str(e)
            own = problem.startswith(("label: ", "mode: ", "text: "))
            yield f"task.{i}.scorer{'.' if own else ': '}{problem}"


def scorer_lines(spec: Spec) -> list[str]:
    """Return a line for each scorer: the output that it scores, with an example."""
    lines: dict[str, None] = {}
    for task in spec.task:
        if (scorer := task.scorer) is None:
            continue
        try:
            known = scored(scorer)
        except ClassifierError as e:
            lines[f"scorer {scorer.name}: {e}"] = None
            continue
        if known is None:
            text = "its labels are not known here; they are read before the sweep starts"
        else:
            text = f"scores {describe(*known, scorer.mode, scorer.sign)}"
        lines[f"scorer {scorer.name}: {text}"] = None
    return list(lines)


def scored(scorer: Scorer) -> tuple[Outputs, int] | None:
    """Return the outputs of a scorer and the number of the one that counts as aligned.

    Returns None for a hub model that is not in the cache. Raises `ClassifierError`, in one line, if
    the scorer cannot be used as the spec says.
    """
    folder = _folder(scorer)
    if folder is None and scorer.hub:
        return None
    outputs = TRAINED
    if folder is not None:
        config = read_config(folder)
        outputs = read_outputs(config, scorer.trust_remote_code)
        # A score model reads safe-rlhf's own dialogues, whatever template its tokenizer has.
        _check_text(scorer, chat_template(folder) and not is_score_model(config))
    return outputs, scored_output(outputs, scorer.label, scorer.mode)


def _check_text(scorer: Scorer, template: bool) -> None:
    """Raise `ClassifierError` where it is not certain what text the scorer expects.

    `template` says whether its tokenizer has a chat template.
    """
    if scorer.text is None and template:
        raise ClassifierError(
            "text: missing; its tokenizer has a chat template, so it may expect conversations in "
            "that form: chat (question and answer through the template), or plain (as they are)"
        )
    if scorer.text == "chat" and not template:
        raise ClassifierError("text: found chat; its tokenizer has no chat template: use plain")


def _folder(scorer: Scorer) -> Path | None:
    """Return the folder of a scorer's configuration, if it is on this machine."""
    if scorer.path is not None:
        return Path(scorer.path)
    if scorer.hub is None or scorer.revision is None:
        return None
    config = cached_config(scorer.hub, scorer.revision)
    return None if config is None else Path(config).parent
