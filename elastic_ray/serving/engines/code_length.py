"""Splits texts into the token windows whose log-probabilities make up their code lengths.

It is the same for every engine. A text is coded as the tokens of its response and the end token,
given the tokens of its prompt; without a prompt, given the tokenizer's first token (its end token
where it has no first one). A text longer than the window is coded in parts, each given the first
token only, so that the code length does not depend on how much an engine can hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...tasks.prompt_tokens import prompt_ids
from ..errors import EngineError
from ..types import CodedText, CodeLengthResult


@dataclass(frozen=True)
class Window:
    """Tokens that are read in one forward pass."""

    text_index: int
    """Index of the text that they belong to."""
    ids: list[int]
    given: int
    """Number of leading tokens that are not coded."""


def split_windows(
    tokenizer: Any, texts: Sequence[CodedText], size: int, context: int
) -> list[Window]:
    """Return the windows of the texts, of at most `size` tokens each, in order.

    Raises `EngineError` if such a window does not fit into the engine's `context`, a prompt
    fills a whole window, or the tokenizer has neither a first nor an end token.
    """
    if size >= context:  # vLLM generates one more token after the window
        raise EngineError(
            f"probes.code_length.window is {size}; the context is {context} "
            "(resources.engines.context, the model's own positions), and it must be below"
        )
    end = tokenizer.eos_token_id
    first = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        raise EngineError("code lengths need a tokenizer with a first or an end token")
    heads = prompt_ids(tokenizer, [text.prompt for text in texts])
    windows = []
    for i, text in enumerate(texts):
        head = (heads[i] if text.prompt else []) or [first]
        tail = list(tokenizer(text.response, add_special_tokens=False).input_ids)
        tail += [] if end is None else [end]
        available = size - len(head)
        if available < 1:
            raise EngineError(
                f"text {i}: its prompt takes {len(head)} tokens; probes.code_length.window is "
                f"{size}"
            )
        windows.append(Window(i, head + tail[:available], len(head)))
        windows += [
            Window(i, [first, *tail[start : start + size - 1]], 1)
            for start in range(available, len(tail), size - 1)
        ]
    return windows


def sum_windows(
    texts: Sequence[CodedText], windows: Sequence[Window], readings: Sequence[tuple[float, str]]
) -> list[CodeLengthResult]:
    """Return the code length of each text from its windows' readings.

    A reading is the nats of a window's coded tokens, and the id of the state that was held. Raises
    `EngineError` if two states read one text.
    """
    nats, tokens = [0.0] * len(texts), [0] * len(texts)
    held: list[set[str]] = [set() for _ in texts]
    for window, (value, state) in zip(windows, readings, strict=True):
        nats[window.text_index] += value
        tokens[window.text_index] += len(window.ids) - window.given
        held[window.text_index].add(state)
    if any(len(states) > 1 for states in held):
        raise EngineError("the engine's state changed while it read a text")
    return [
        CodeLengthResult(
            nats[i] / math.log(2), tokens[i], len(text.response.encode()), held[i].pop()
        )
        for i, text in enumerate(texts)
    ]
