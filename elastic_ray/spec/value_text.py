"""How error messages show values, texts and suggestions."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def one_line(text: str) -> str:
    """Return the text on one line of at most 100 characters, control characters escaped."""
    shown = text if text.isprintable() else repr(text)[1:-1]
    return shown if len(shown) <= 100 else shown[:97] + "..."


def describe_value(value: Any) -> str:
    """Return a value with its type in YAML's words, e.g. "'abc' (text)" or "3 (a whole number)"."""
    types = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
    types |= {list: "a list", dict: "a mapping", type(None): "nothing"}
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"{shown} ({types.get(type(value), type(value).__name__)})"


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return " (did you mean ...?)" with the most similar known word, or "" if none is similar."""
    similar = get_close_matches(word, sorted(known), n=1, cutoff=cutoff)
    return f" (did you mean {similar[0]!r}?)" if similar else ""
