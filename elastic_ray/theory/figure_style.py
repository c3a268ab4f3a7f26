"""Loads matplotlib on demand and sets the style of every figure of the theory and the report.

SVG files keep their text as text, use fixed ids and contain no date, so the same numbers always
give the same file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "elastic_ray",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.4,
    "figure.constrained_layout.use": True,
}


class FigureError(RuntimeError):
    """Figures cannot be drawn on this machine; the message says what to install."""


def require_matplotlib(alternative: str = "") -> Any:
    """Import and return matplotlib.

    Raises `FigureError` if it is not installed; `alternative` ends the message, as in
    ", or pass --no-figures".
    """
    try:
        import matplotlib
    except ImportError as e:
        raise FigureError(
            f'figures need matplotlib: pip install "elastic_ray[app]"{alternative}'
        ) from e
    return matplotlib


@contextmanager
def figure_style(settings: dict[str, Any] | None = None) -> Iterator[None]:
    """Apply the style within a `with` block; `settings` are further matplotlib rc parameters."""
    with require_matplotlib().rc_context(_STYLE | (settings or {})):
        yield
