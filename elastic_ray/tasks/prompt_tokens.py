"""The token ids of texts that something follows: prompts before an answer, and training texts.

A tokenizer may put tokens of its own around a text. Those before it (a first token, for example)
are part of the prompt. Those after it (an end token, with `add_eos_token`, or a separator) would
stand between prompt and answer, so they are left out. Training, engines, code lengths and distances
all use this module: they see the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_ORDINARY = ("a", "0", ".")
"""Texts that a tokenizer splits into ordinary tokens."""


def prompt_ids(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each prompt, without those that the tokenizer adds at the end.

    The tokenizer is called without padding and truncation, so that threads may share it.
    """
    if not prompts:
        return []
    rows = tokenizer(list(prompts)).input_ids
    added = tokens_added_at_end(tokenizer, prompts)
    return [list(row[: len(row) - added]) for row in rows]


def tokens_added_at_end(tokenizer: Any, texts: Sequence[str] = ()) -> int:
    """Return how many tokens the tokenizer adds after every text.

    It is told from ordinary texts, and from `texts` where the tokenizer knows none of those.
    """
    for text in (*_ORDINARY, *texts):
        plain = list(tokenizer(text, add_special_tokens=False).input_ids)
        if not plain:
            continue
        whole = list(tokenizer(text).input_ids)
        for before in range(len(whole) - len(plain), -1, -1):
            if whole[before : before + len(plain)] == plain:
                return len(whole) - len(plain) - before
    return 0
