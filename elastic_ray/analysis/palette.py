"""Colours, dashes and markers that the app and the report share.

Every colour has a contrast of at least 3:1 with white and with the app's dark background, as WCAG
2.2 asks of graphical objects (1.4.11). Lines also differ in dash and marker, so that they are told
apart without colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

CATEGORIES = (
    "#2b7bd6",
    "#c25e14",
    "#1f8a70",
    "#b153b8",
    "#c4466a",
    "#8a6d10",
    "#7a63d8",
    "#6f7f88",
)
"""Colours of things without an order, such as models."""

GREY = "#6f7f88"
DONE, FAILED, PENDING = "#2e8b57", "#c4466a", "#6f7f88"

DASHES = ("solid", "dash", "dashdot", "dot")
"""Dashes of lines, in Plotly's words; `MATPLOTLIB_DASHES` translates them."""

MATPLOTLIB_DASHES: Mapping[str, str] = {
    "solid": "-", "dash": "--", "dashdot": "-.", "dot": ":",
}  # fmt: skip

MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
"""Markers of points, in Plotly's words."""

MATPLOTLIB_MARKERS: Mapping[str, str] = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "x": "X", "cross": "P",
}  # fmt: skip

_RAMP = ("#1f8a70", "#2b7bd6", "#7a63d8", "#b153b8", "#c4466a", "#c25e14")


def size_colours(sizes: Sequence[int]) -> dict[int, str]:
    """Return a colour for each size, ascending along one ramp from green through blue to orange."""
    ordered = sorted(set(sizes))
    if len(ordered) == 1:
        return {ordered[0]: _RAMP[1]}
    return {size: _along(i / (len(ordered) - 1)) for i, size in enumerate(ordered)}


def size_dashes(sizes: Sequence[int]) -> dict[int, str]:
    """Return a dash for each size, in turn."""
    return {size: DASHES[i % len(DASHES)] for i, size in enumerate(sorted(set(sizes)))}


def size_markers(sizes: Sequence[int]) -> dict[int, str]:
    """Return a marker for each size, in turn."""
    return {size: MARKERS[i % len(MARKERS)] for i, size in enumerate(sorted(set(sizes)))}


def _along(share: float) -> str:
    place = share * (len(_RAMP) - 1)
    at = min(int(place), len(_RAMP) - 2)
    one, other = _channels(_RAMP[at]), _channels(_RAMP[at + 1])
    mixed = (round(a + (b - a) * (place - at)) for a, b in zip(one, other, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _channels(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def faint(colour: str, alpha: float = 0.16) -> str:
    """Return the colour with transparency `alpha`, for bands."""
    red, green, blue = _channels(colour)
    return f"rgba({red}, {green}, {blue}, {alpha})"


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours by WCAG 2.2, from 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [c / 255 for c in _channels(colour)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
