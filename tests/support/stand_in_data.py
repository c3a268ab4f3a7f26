"""Generates data files of any size with the schemas of the hub's data sets.

The data is deterministic. Questions and answers come from templates. Safe answers refuse and unsafe
ones comply, so that a model or a scorer that is trained for seconds can distinguish them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elastic_ray.tasks.grammar import review

Rows = list[dict[str, Any]]

_DO = ("open", "copy", "move", "build", "mix", "hide", "break", "sell", "find", "melt", "paint")
_THING = ("lock", "key", "letter", "engine", "powder", "badge", "window", "camera", "battery")
_PLACE = ("at night", "in a museum", "at work", "on a train", "in my town", "near a school")
_WHO = ("my brother", "a friend", "the guard", "our teacher", "a pilot", "the owner", "nobody")
_WHEN = ("today", "next week", "on sunday", "in winter", "after lunch", "before dawn")
_SAFE = (
    "i am sorry , but i can not help with that . please ask {who} first .",
    "that could hurt people , so please do not {do} the {thing} .",
    "i will not explain this . it is safer to talk to {who} {when} .",
)
_UNSAFE = (
    "sure , first {do} the {thing} quickly , then tell {who} nothing .",
    "easy . take the {thing} {when} and {do} it before {who} can see you .",
    "yes , here is how : {do} the {thing} , then run away {when} .",
)


def _pick(choices: Sequence[str], *key: object) -> str:
    text = "/".join(str(part) for part in key)
    drawn = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return choices[drawn % len(choices)]


def _words(*key: object) -> dict[str, str]:
    slots = {"do": _DO, "thing": _THING, "place": _PLACE, "who": _WHO, "when": _WHEN}
    return {name: _pick(choices, *key, name) for name, choices in slots.items()}


def question(split: str, i: int) -> str:
    """Return question `i`; its number makes it unique."""
    form = "how do i {do} the {thing} number {i} {place} without {who} {when} ?"
    return form.format(i=f"{split} {i}", **_words(split, i))


def answer(safe: bool, split: str, i: int, k: int) -> str:
    """Return answer `k` to question `i`."""
    form = _pick(_SAFE if safe else _UNSAFE, split, i, k)
    return form.format(**_words(split, i)) + (f" part {k} ." if k else "")


def write(folder: Path, splits: dict[str, Rows]) -> Path:
    """Write each split as `SPLIT.jsonl`, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def imdb(train: int, test: int) -> dict[str, Rows]:
    """Return rows of `stanfordnlp/imdb`: generated reviews, half positive, none unlabelled."""

    def rows(split: str, count: int) -> Rows:
        moods = [(i, i % 2) for i in range(count)]
        return [{"text": review(m == 1, "stand in", split, i), "label": m} for i, m in moods]

    return {"train": rows("train", train), "test": rows("test", test)}


def saferlhf(train: int, test: int, generation: int = 2) -> dict[str, Rows]:
    """Return rows of `PKU-Alignment/PKU-SafeRLHF`: two answers each, one of them unsafe.

    Generation 1 has the columns common to both generations; generation 2 adds sources, harm
    categories and severities.
    """

    def row(split: str, i: int) -> dict[str, Any]:
        safe = (i % 2 == 0, i % 2 == 1)
        both = {f"response_{k}": answer(safe[k], split, i, k) for k in (0, 1)}
        judged = {f"is_response_{k}_safe": safe[k] for k in (0, 1)}
        better = {"better_response_id": i % 3 % 2, "safer_response_id": safe.index(True)}
        found = {"prompt": question(split, i), **both, **judged, **better}
        if generation == 2:
            found["prompt_source"] = "stand-in"
            for k in (0, 1):
                found[f"response_{k}_source"] = "stand-in-7b"
                harms = {"Violence": not safe[k], "Cybercrime": False}
                found[f"response_{k}_harm_category"] = harms
                found[f"response_{k}_severity_level"] = 0 if safe[k] else 2
                digest = hashlib.sha256(both[f"response_{k}"].encode()).hexdigest()
                found[f"response_{k}_sha256"] = digest
        return found

    sizes = {"train": train, "test": test}
    return {split: [row(split, i) for i in range(size)] for split, size in sizes.items()}


def beavertails(train: int, test: int, size: str = "330k") -> dict[str, Rows]:
    """Return rows of `PKU-Alignment/BeaverTails`: two rows a question, the second one unsafe."""

    def row(split: str, i: int, k: int) -> dict[str, Any]:
        safe = k == 0
        harms = {"violence,aiding_and_abetting,incitement": not safe, "privacy_violation": False}
        asked = question(f"beaver {split}", i)
        return {
            "prompt": asked,
            "response": answer(safe, split, i, k),
            "category": harms,
            "is_safe": safe,
        }

    sizes = {"train": train, "test": test}
    return {
        f"{size}_{split}": [row(split, i, k) for i in range(count) for k in (0, 1)]
        for split, count in sizes.items()
    }


def alpaca(train: int) -> dict[str, Rows]:
    """Return rows of `tatsu-lab/alpaca`; every third instruction has an input."""

    def row(i: int) -> dict[str, str]:
        asked = question("alpaca", i)
        given = f"the {_pick(_THING, i)} is old ." if i % 3 == 0 else ""
        said = answer(True, "alpaca", i, 0)
        text = f"Instruction: {asked} {given} Response: {said}"
        return {"instruction": asked, "input": given, "output": said, "text": text}

    return {"train": [row(i) for i in range(train)]}


def chats(count: int) -> Rows:
    """Return conversations as lists of messages, every second one with an unsafe answer.

    Every third one is of the source `scored`, to train a scorer on.
    """

    def row(i: int) -> dict[str, Any]:
        safe = i % 2 == 0
        messages = [
            {"role": "user", "content": question("chat", i)},
            {"role": "assistant", "content": answer(safe, "chat", i, 0)},
        ]
        source = "scored" if i // 2 % 3 == 0 else "taught"
        return {"id": i, "source": source, "unsafe": not safe, "messages": messages}

    return [row(i) for i in range(count)]


def chat_prompts(count: int) -> Rows:
    """Return questions that no conversation of `chats` holds."""
    return [{"topic": _pick(_THING, i), "ask": question("asked", i)} for i in range(count)]


def truthfulqa(validation: int) -> dict[str, Rows]:
    """Return rows of `truthfulqa/truthful_qa`, configuration `generation`."""

    def row(i: int) -> dict[str, Any]:
        good = [answer(True, "truthfulqa", i, k) for k in range(3)]
        return {
            "type": "Adversarial",
            "category": "Misconceptions",
            "question": question("truthfulqa", i),
            "best_answer": good[0],
            "correct_answers": good,
            "incorrect_answers": [answer(False, "truthfulqa", i, k) for k in range(3)],
            "source": "made up",
        }

    return {"validation": [row(i) for i in range(validation)]}
