"""Colours that all figures share."""

from __future__ import annotations

from plotly.colors import sample_colorscale

CATEGORIES = (
    "#2a9dc4",
    "#e07b39",
    "#3fa66b",
    "#b565c9",
    "#d64f6f",
    "#8b8f2e",
    "#5b7be0",
    "#a8714b",
)
GREY = "#8a979e"
DONE, FAILED, PENDING = "#3fa66b", "#d64f6f", "#a9b4b9"
SCALE = "Viridis"
DIVERGING = "RdBu"

_STEPS = ["#46c2b3", "#2a9dc4", "#4f74e0", "#9a5bd6", "#d14f9b"]


def steps(count: int) -> list[str]:
    """Return `count` colours for ascending values, from teal through blue and violet to pink."""
    if count == 1:
        return [_STEPS[1]]
    return list(sample_colorscale(_STEPS, [i / (count - 1) for i in range(count)]))


def faint(colour: str, alpha: float = 0.16) -> str:
    """Return the colour with transparency `alpha`, for bands."""
    if colour.startswith("#"):
        parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    else:
        parts = [int(float(p)) for p in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    return f"rgba({parts[0]}, {parts[1]}, {parts[2]}, {alpha})"
