"""The grammar of the bundled film reviews, and the random draws that generate them.

A review has a neutral opening ("i saw this old western with my brother last night ."), two to four
statements about aspects of the film, and sometimes a summary. Each statement agrees with the
review's sentiment with probability `CONSISTENCY`. Statements vary in polarity, strength, aspect and
negation, and words in frequency, so that more examples and larger models keep improving. An opening
has at least eight tokens, so a prompt cut from it is neutral. The file is mostly word lists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

VERSION = 2
"""Increased when anything changes that texts depend on: grammar, draws, sizes of the pools."""
CONSISTENCY = 0.97
"""Probability that a statement agrees with the review's sentiment."""

_OPEN = (
    "i saw this {age} {genre} {with_} {when} .",
    "{with_} , i watched this {genre} {when} .",
    "this {age} {genre} is about a {person} who {plot} .",
    "a {person} {plot} in this {genre} by a {maker} director .",
    "we rented this {genre} {when} and watched it {with_} .",
    "the {genre} follows a {person} who {plot} .",
    "{when} i finally watched this {age} {genre} {with_} .",
    "in this {genre} a {person} {plot} and then {plot} .",
)
_SLOTS = {
    "age": ("old", "new", "recent", "foreign", "short", "long", "classic", "small", "french"),
    "genre": (
        "film",
        "movie",
        "western",
        "comedy",
        "drama",
        "thriller",
        "romance",
        "mystery",
        "musical",
        "documentary",
        "horror film",
        "war film",
        "crime story",
        "family film",
        "sequel",
        "remake",
    ),
    "with_": (
        "with my brother",
        "with my sister",
        "with two friends",
        "with my wife",
        "with the kids",
        "at home",
        "at a festival",
        "on a plane",
        "on television",
        "in an empty cinema",
        "alone",
    ),
    "when": (
        "last night",
        "last week",
        "yesterday",
        "on sunday",
        "years ago",
        "this morning",
        "over the holidays",
        "after work",
        "on a rainy day",
    ),
    "person": (
        "doctor",
        "soldier",
        "teacher",
        "detective",
        "widow",
        "boxer",
        "painter",
        "farmer",
        "pilot",
        "singer",
        "lawyer",
        "young girl",
        "retired cop",
        "lonely man",
        "journalist",
        "thief",
    ),
    "plot": (
        "loses a child",
        "finds a letter",
        "returns to a village",
        "falls in love",
        "plans a robbery",
        "hunts a killer",
        "leaves the army",
        "inherits a house",
        "crosses the desert",
        "meets a stranger",
        "hides a secret",
        "moves to the city",
        "searches for a brother",
    ),
    "maker": ("young", "famous", "unknown", "german", "first time", "veteran"),
}
_ASPECTS = (
    "plot",
    "story",
    "acting",
    "cast",
    "music",
    "score",
    "script",
    "dialogue",
    "pacing",
    "ending",
    "direction",
    "camera work",
    "lighting",
    "humor",
    "lead actor",
    "lead actress",
    "editing",
    "costumes",
    "opening",
    "villain",
    "romance",
    "suspense",
    "narration",
    "set design",
)
_GOOD = (
    ("good", "fine", "nice", "solid", "decent", "pleasant", "likable"),
    ("great", "charming", "clever", "moving", "funny", "strong", "fresh", "warm", "gripping"),
    (
        "wonderful",
        "brilliant",
        "superb",
        "excellent",
        "perfect",
        "beautiful",
        "unforgettable",
        "stunning",
    ),
)
_BAD = (
    ("weak", "slow", "flat", "thin", "uneven", "dull", "forgettable"),
    ("bad", "boring", "clumsy", "silly", "lazy", "stale", "cheap", "predictable", "confusing"),
    (
        "awful",
        "terrible",
        "horrible",
        "dreadful",
        "painful",
        "laughable",
        "unwatchable",
        "pathetic",
    ),
)
_STRENGTH = ("", "really", "very", "quite", "truly", "rather", "simply", "absolutely")
_GOOD_DOES = (
    "kept me smiling",
    "moved me to tears",
    "won me over",
    "held my attention",
    "made me laugh",
    "stayed with me for days",
    "lifts every scene",
    "rewards a patient viewer",
)
_BAD_DOES = (
    "put me to sleep",
    "made me cringe",
    "wore me out",
    "ruined every scene",
    "went nowhere",
    "insults the viewer",
    "made no sense",
    "lost me after ten minutes",
)
_GOOD_END = (
    "i loved it and i would watch it again .",
    "a joy from start to finish .",
    "highly recommended .",
    "do not miss it .",
    "one of the best films of the year .",
    "i left the cinema happy .",
    "ten out of ten .",
    "worth every minute .",
)
_BAD_END = (
    "i hated it and i want my money back .",
    "a waste of time from start to finish .",
    "avoid it .",
    "do not bother .",
    "one of the worst films of the year .",
    "i walked out before the end .",
    "one out of ten .",
    "not worth a minute .",
)


class _Draw:
    """Random choices from a hash: the same on every machine and in every Python version."""

    def __init__(self, *key: object) -> None:
        text = "\0".join(str(part) for part in ("reviews", VERSION, *key))
        self._key = text.encode()
        self._block = 0
        self._left = 0
        self._bits = 0

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1, uniform to 2^-24."""
        if self._left == 0:
            block = self._block.to_bytes(4, "little")
            self._bits = int.from_bytes(
                hashlib.blake2b(self._key, digest_size=60, salt=block).digest(), "little"
            )
            self._block += 1
            self._left = 20
        drawn = self._bits & 0xFFFFFF
        self._bits >>= 24
        self._left -= 1
        return drawn * limit >> 24

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.below(1 << 20) < probability * (1 << 20)

    def uniform(self, choices: Sequence[str]) -> str:
        """Return one of the choices, each equally likely."""
        return choices[self.below(len(choices))]

    def skewed(self, choices: Sequence[str]) -> str:
        """Return one of the choices, earlier ones more often: the smaller of two uniform draws."""
        n = len(choices)
        return choices[min(self.below(n), self.below(n))]


def review(good: bool, *key: object) -> str:
    """Return a positive or negative review: lower-case words and punctuation, single spaces."""
    draw = _Draw(*key)
    parts = [_opening(draw)]
    parts += [
        _statement(draw, good if draw.chance(CONSISTENCY) else not good)
        for _ in range(2 + draw.below(3))
    ]
    if draw.chance(0.6):
        parts.append(draw.uniform(_GOOD_END if good else _BAD_END))
    return " ".join(parts)


def _opening(draw: _Draw) -> str:
    text = draw.uniform(_OPEN)
    for slot, choices in _SLOTS.items():
        while f"{{{slot}}}" in text:
            text = text.replace(f"{{{slot}}}", draw.skewed(choices), 1)
    return text


def _statement(draw: _Draw, good: bool) -> str:
    aspect = draw.skewed(_ASPECTS)
    kind = draw.below(12)
    if kind < 3:
        return f"the {aspect} {draw.skewed(_GOOD_DOES if good else _BAD_DOES)} ."
    if kind == 3:  # the negation inverts the word's polarity
        word = draw.skewed((_BAD if good else _GOOD)[draw.below(2)])
        return f"the {aspect} is never {word} ."
    if kind == 4:  # the second half carries the sentiment
        other = draw.skewed(_ASPECTS)
        return f"{_says(draw, other, not good)} , but {_says(draw, aspect, good)} ."
    if kind < 7:
        other = draw.skewed(_ASPECTS)
        return f"{_says(draw, aspect, good)} and {_says(draw, other, good)} ."
    return f"{_says(draw, aspect, good)} ."


def _says(draw: _Draw, aspect: str, good: bool) -> str:
    word = draw.skewed((_GOOD if good else _BAD)[draw.below(3)])
    strength = draw.skewed(_STRENGTH)
    return " ".join(filter(None, ("the", aspect, "is", strength, word)))


def vocabulary() -> list[str]:
    """Return all words that reviews can contain, sorted."""
    groups: list[Sequence[str]] = [_OPEN, *_SLOTS.values(), _ASPECTS, *_GOOD, *_BAD, _STRENGTH]
    groups += [_GOOD_DOES, _BAD_DOES, _GOOD_END, _BAD_END]
    found = {word for group in groups for text in group for word in text.split()}
    found |= {"the", "is", "never", "and", "but", ",", "."}
    return sorted(word for word in found if "{" not in word)
