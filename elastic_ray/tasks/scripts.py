"""Which texts are written without spaces between words, and how many tokens a text has, about."""

from __future__ import annotations

import re

_SPACELESS = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Japanese, radicals
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
    "\uff66-\uff9f"  # narrow Japanese
    "]"
)


def is_spaceless(text: str) -> bool:
    """Return whether most characters of a text are of scripts without spaces between words."""
    if text.isascii():
        return False
    return 2 * len(_SPACELESS.findall(text)) > len(text) - text.count(" ")


def approximate_tokens(text: str, per_word: float) -> float:
    """Return about how many tokens a text has: `per_word`, or one per character without spaces."""
    if text.isascii():
        return per_word * len(text.split())
    spaceless = len(_SPACELESS.findall(text))
    return per_word * len(_SPACELESS.sub(" ", text).split()) + spaceless
