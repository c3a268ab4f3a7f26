"""Texts as the token windows that their code length is read from; the same for every engine.

A text is the tokens of its response and the end token. What comes before is given: the prompt's
tokens, or without a prompt the tokenizer's first token (its end token where it has no first one). A
text longer than the window is coded in parts, each after the first token anew, so that the length
does not depend on how much an engine can hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import EngineError
from ..types import CodedText, CodeLengthResult


@dataclass(frozen=True)
class Window:
    """Token ids to read at once; the first `given` are not coded. `text` is the text's place."""

    text: int
    ids: list[int]
    given: int


def windows(tokenizer: Any, texts: Sequence[CodedText], size: int, longest: int) -> list[Window]:
    """The texts' windows of at most `size` tokens, in order.

    `EngineError` where the engine's context `longest` holds no such window, a prompt leaves no room
    in it, or the tokenizer has neither a first nor an end token.
    """
    if size >= longest:  # vLLM generates a token after it
        raise EngineError(
            f"probes.code_length.window is {size}; the context is {longest} "
            "(resources.engines.context, the model's own positions), and it must be below"
        )
    end = tokenizer.eos_token_id
    first = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        raise EngineError("code lengths need a tokenizer with a first or an end token")
    found = []
    for i, text in enumerate(texts):
        head = list(tokenizer(text.prompt).input_ids) if text.prompt else [first]
        tail = list(tokenizer(text.response, add_special_tokens=False).input_ids)
        tail += [] if end is None else [end]
        room = size - len(head)
        if room < 1:
            raise EngineError(
                f"text {i}: its prompt takes {len(head)} tokens; probes.code_length.window is "
                f"{size}"
            )
        found.append(Window(i, head + tail[:room], len(head)))
        found += [
            Window(i, [first, *tail[start : start + size - 1]], 1)
            for start in range(room, len(tail), size - 1)
        ]
    return found


def measured(
    texts: Sequence[CodedText], parts: Sequence[Window], read: Sequence[tuple[float, str]]
) -> list[CodeLengthResult]:
    """The texts' code lengths from what was read of each window: nats, and the state held."""
    nats, tokens = [0.0] * len(texts), [0] * len(texts)
    held: list[set[str]] = [set() for _ in texts]
    for part, (value, state) in zip(parts, read, strict=True):
        nats[part.text] += value
        tokens[part.text] += len(part.ids) - part.given
        held[part.text].add(state)
    if any(len(states) > 1 for states in held):
        raise EngineError("a text was read by two states")
    return [
        CodeLengthResult(
            nats[i] / math.log(2), tokens[i], len(text.response.encode()), held[i].pop()
        )
        for i, text in enumerate(texts)
    ]
